"""Classifiers: logistic regression and networks, and how they are stored."""

"""Classifiers: the logistic regression, networks, and how they are stored."""

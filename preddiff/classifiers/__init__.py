"""Classifiers: linear models and networks, and how they are stored."""

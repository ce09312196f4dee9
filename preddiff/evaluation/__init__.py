"""Evaluation: how good maps of relevance are, and how right classifiers."""

"""Baselines: other explanations, to compare with."""

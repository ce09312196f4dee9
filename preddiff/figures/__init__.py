"""Figures, as functions of arrays."""

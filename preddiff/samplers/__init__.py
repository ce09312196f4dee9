"""Samplers: what redraws a window."""

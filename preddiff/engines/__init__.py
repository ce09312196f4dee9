"""Engines: ways to the one expectation E[z | x without w], with one interface."""

"""Datasets: the kinds of items, how they are read, and their data stores."""

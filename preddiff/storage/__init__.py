"""Storage: Zarr stores, their provenance, and files that appear whole or not at all."""

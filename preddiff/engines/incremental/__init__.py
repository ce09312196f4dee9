"""The incremental engine: recomputes only what a window changes in a convolutional network."""

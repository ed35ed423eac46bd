"""The training step of the trained block: losses, negatives, smoothing, optimizer."""

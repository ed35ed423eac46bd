"""What the two-tower encoder is trained on: histories, items, their features."""

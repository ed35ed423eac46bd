"""A generated shop whose preferences are known."""

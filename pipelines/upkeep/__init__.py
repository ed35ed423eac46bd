"""Runs after they are made: which there are, what changed between two, which stay, which go, and users cleared of."""

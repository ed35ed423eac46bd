"""A night beside another: what changed since the version before, and two runs side by side."""

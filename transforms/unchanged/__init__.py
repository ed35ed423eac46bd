"""The transforms of a night that kept its encoder: what changed is scored again, the rest is of the night before."""

"""Items bought again: how often they are, how they rank beside new ones, and how much that weighs."""

"""Lists of the night before that still hold: which rows are as they were, and what new candidates do to a list."""

"""topkin."""

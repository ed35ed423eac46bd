"""Ranking and retrieval metrics, and their confidence intervals."""

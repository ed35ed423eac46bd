"""Transforms of a run over items alone."""

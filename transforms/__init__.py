"""Beam PTransforms over Arrow tables: the element of a PCollection is a table, never a row."""

from topkin.transforms import coders as _coders  # registers the table coder in every worker

__all__: list[str] = []
del _coders

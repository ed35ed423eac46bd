"""Fitting and validating an encoder."""

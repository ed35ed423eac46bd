"""Encoders of images and texts."""

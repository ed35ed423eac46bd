"""Cosine similarity and top-k in TensorFlow, and the device they run on."""

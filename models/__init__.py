"""Encoders in Keras 3 on TensorFlow: the towers, their training, their files."""

"""Distances, miners, reducers, samplers and layers of deep metric learning."""

"""Losses of deep metric learning: pairs, proxies, softmax, ranking."""

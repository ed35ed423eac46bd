"""Pictures of pairs, neighbours and embeddings, by Matplotlib (``pip install topkin[plots]``)."""

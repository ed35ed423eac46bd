"""From histories and items to embeddings, in NumPy: blocks, the SVD, content, batching."""

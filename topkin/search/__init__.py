"""Top-k search, exact and by an HNSW index."""

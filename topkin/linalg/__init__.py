"""Linear algebra that several packages need: cosine, tall products, BLAS threads."""

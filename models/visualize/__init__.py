"""Pictures of neighbours and of embeddings."""

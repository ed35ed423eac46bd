"""A trained Keras model over the user's own table: for itself, and for the catalogue of a run over purchases."""

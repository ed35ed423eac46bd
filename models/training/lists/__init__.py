"""What validation chooses of the lists beyond the encoder: weights of bought items, and the second stage."""

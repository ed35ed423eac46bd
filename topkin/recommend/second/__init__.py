"""A second stage: candidates of the encoder and of sources beside it, ranked by a blend that validation chose."""

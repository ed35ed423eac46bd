"""The encoder of the nightly job: towers, computed blocks, serialization."""

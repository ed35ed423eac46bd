"""What every job shares: stages, their keys, the Beam pipeline."""

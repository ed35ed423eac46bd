"""Progress, profiles and counters of the work."""

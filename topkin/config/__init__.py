"""Settings: the sections of a configuration file, reading one, and the reference of its keys."""

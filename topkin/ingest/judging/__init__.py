"""Whether an input is good enough: a sample of all its files, what of it is rejected, and how much may be."""

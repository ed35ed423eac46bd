"""The sections of what a shop tells beside its purchases, of its rules over lists, and of neighbours."""

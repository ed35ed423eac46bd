"""What single values of the user's columns mean: texts and numbers as times, lists of items, types and their cures."""

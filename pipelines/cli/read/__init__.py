"""The commands that read a published run: queries and explanations."""

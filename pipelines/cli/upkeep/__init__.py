"""The commands that look after runs once they are made."""

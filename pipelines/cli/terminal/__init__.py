"""What a terminal, a log and a chat channel are shown, and what a shell completes."""

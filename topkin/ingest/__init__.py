"""From the user's files to clean interactions and a catalogue."""

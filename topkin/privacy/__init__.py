"""Users that asked to be forgotten: who they are without naming them, tables without them, and the proof."""

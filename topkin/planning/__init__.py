"""What a run will cost: rows, bytes, memory, time."""

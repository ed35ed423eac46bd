"""How the ids of two inputs meet: measured, told, and mended where only their spelling differs."""

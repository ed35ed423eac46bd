"""Search structures made by the workers, a shard at a time."""

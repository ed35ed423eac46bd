"""Lists that are made for all users together: several of each user in one run, and items with a capacity."""

"""``topkin serve``: the page of a run on loopback, with every user and item of its tables."""

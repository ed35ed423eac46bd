"""What the page holds to be looked up: a sample of users and items, their lists, neighbours and places on the map."""

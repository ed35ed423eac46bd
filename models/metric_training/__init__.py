"""Training an encoder of items by metric learning, from prepared tables: labels, pairs, or nothing but the items."""

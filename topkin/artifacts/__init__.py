"""What runs leave behind: storage, manifests, tables and their schemas, ids, look-ups."""

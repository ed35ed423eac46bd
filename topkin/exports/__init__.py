"""The tables of a run in other stores: files, databases, vector stores, lakes; one module a kind of store."""

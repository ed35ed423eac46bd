"""Approximate search: NMSLIB's HNSW graph (Malkov and Yashunin 2018) over item vectors, checked on every side.

NMSLIB trusts what it is given: a flipped bit in an index file crashes the process or changes answers, a NaN
ruins the graph, a query of the wrong dimension is accepted. So nothing reaches it unchecked: vectors are
finite unit rows of the right dimension, ids are our own row numbers, and every file's SHA-256 is verified
before NMSLIB opens it. The index is a cache of the vectors' table; exact search is what it is measured by.

::

    index/  index.json      parameters, files with their SHA-256, recall measured against exact search
            ids.parquet     one row per indexed item, shard after shard: row (in the catalogue; -1 for a
                            tombstone, an item that is gone or has another vector since), item_id,
                            point (of its graph; items with equal vectors share one), vector
            shard-00000.nmslib, shard-00000.nmslib.dat, …   the graph, and the data beside it
"""

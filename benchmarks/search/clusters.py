"""Users like a user in the nearest clusters against a look at everybody: processor seconds, and the share found.

``python -m benchmarks.search.clusters [--users 200000 --dim 64 --k 10] [--purchases FILE]``. With a Parquet file whose
first columns are a user and an item, users are the rows of its truncated SVD, else points around 500 centres, which lie
worse. What both take for all users is the time for some, times what is left out: 2,000 users against everybody, some
clusters. No Beam, no files.
"""

import argparse
import time
from collections.abc import Callable
from typing import TypeVar

import numpy as np

from benchmarks.search.index import vectors

T = TypeVar("T")


def _timed(work: Callable[[], T]) -> tuple[T, float]:
    began = time.process_time()
    return work(), time.process_time() - began


def _of(purchases: str, dim: int) -> np.ndarray:
    """Unit rows of users: what they bought, equal for all users, rare items more, in the space of a truncated SVD."""
    import pyarrow.parquet as pq
    import scipy.sparse as sp
    from scipy.sparse.linalg import svds

    from topkin.linalg.cosine import unit_rows

    table = pq.read_table(purchases)
    rows, columns = (table[n].combine_chunks().dictionary_encode().indices.to_numpy() for n in (0, 1))
    bought = sp.csr_array((np.ones(len(rows)), (rows, columns)))
    bought.data[:] = 1
    users, items = (np.asarray(bought.sum(axis=axis)).ravel() for axis in (1, 0))
    scaled = (sp.diags_array(users**-0.5) @ bought @ sp.diags_array(items**-0.25)).astype(np.float32)
    right = svds(scaled, dim, random_state=0)[2]
    return np.ascontiguousarray(unit_rows((scaled @ right.T).astype(np.float32)))


def main() -> None:
    """Print the seconds of both, their ratio, how many clusters are searched and the recall that is measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    for name, value in {"users": 200_000, "dim": 64, "k": 10}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--purchases")
    args = parser.parse_args()
    from topkin.recommend import clusters as c

    centres, rng = np.random.default_rng(0).standard_normal((500, args.dim)), np.random.default_rng(2)
    users = _of(args.purchases, args.dim) if args.purchases else vectors(args.users, args.dim, 1, centres)
    n, clusters = len(users), c.n_clusters(len(users))
    some = np.sort(rng.choice(n, 2_000, replace=False))
    (ids, _), exact = _timed(lambda: c.nearest_to(users[some], some, users, 0, args.k))
    sample = np.sort(rng.choice(n, min(n, c.LEARNED_FROM * clusters), replace=False))
    centroids, learn = _timed(lambda: c.centroids_of(users[sample], clusters, 0))
    homes, assign = _timed(lambda: c.nearest_clusters(users, centroids, c.MOST_PROBES))
    measured = c.Measured.of(homes[some], np.where(ids < 0, -1, homes[ids, 0]))
    searched = homes[:, : measured.probes]
    tried = rng.choice(clusters, min(clusters, 20), replace=False)

    def search() -> int:
        asked = 0
        for cluster in tried:
            numbers, rank = np.nonzero(searched == cluster)
            c.search_cluster(numbers, rank == 0, users[numbers], args.k)
            asked += len(numbers)
        return asked

    asked, seconds = _timed(search)
    whole, near = exact * n / len(some), learn + assign + seconds * searched.size / asked
    print(f"{n:,} users x {args.dim}, {args.k} neighbours, {clusters} clusters")
    print(f"  searched {measured.probes}: {measured.recall:.4f} of the nearest to {len(some):,} users")
    print(f"  processor seconds: everybody {whole:,.0f}, clusters {near:,.1f} ({learn:.1f} to learn, {assign:.1f} to")
    print(f"  assign), ratio {near / whole:.3f}")


if __name__ == "__main__":
    main()

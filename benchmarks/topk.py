"""Exact top-k against its peers: one table of medians, each a ratio to the peer in the same run.

``python -m benchmarks.topk [--users 8192 --items 60000 --dim 64 --k 100 --threads 2 --repeats 5]``. The rows
run in turn, so that a slow moment hits all of them. FAISS takes part where it is installed.
"""

import argparse
import importlib.util
import os
from collections.abc import Callable

from benchmarks._turns import Turns


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    for name, value in {"users": 8192, "items": 60_000, "dim": 64, "k": 100, "threads": 2, "repeats": 5}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    args = parser.parse_args()
    os.environ["OPENBLAS_NUM_THREADS"] = str(args.threads)  # read when NumPy is first imported
    import numpy as np

    from topkin.cosine import unit_rows
    from topkin.topk import top_k

    rng = np.random.default_rng(0)
    users = unit_rows(rng.standard_normal((args.users, args.dim), dtype=np.float32))
    items = unit_rows(rng.standard_normal((args.items, args.dim), dtype=np.float32))
    bought = 40
    indptr = np.arange(args.users + 1) * bought
    exclude = indptr, rng.integers(args.items, size=indptr[-1]).astype(np.int32)

    def blocks() -> list[slice]:
        return [slice(s, s + 1024) for s in range(0, args.users, 1024)]

    def product() -> None:
        for s in blocks():
            users[s] @ items.T

    def argpartition() -> "np.ndarray":
        lists = []
        for s in blocks():
            scores = users[s] @ items.T
            top = np.argpartition(scores, -args.k, axis=1)[:, -args.k :]
            order = np.argsort(-np.take_along_axis(scores, top, axis=1), axis=1)
            lists.append(np.take_along_axis(top, order, axis=1))
        return np.concatenate(lists)

    rows: dict[str, Callable[[], object]] = {
        "topkin": lambda: top_k(users, items, args.k, threads=args.threads)[0],
        "topkin, 40 exclusions": lambda: top_k(users, items, args.k, exclude=exclude, threads=args.threads)[0],
        "bare product": product,
        "NumPy argpartition": argpartition,
    }
    if importlib.util.find_spec("faiss"):
        import faiss

        faiss.omp_set_num_threads(args.threads)
        index = faiss.IndexFlatIP(args.dim)
        index.add(items)

        def filtered() -> "np.ndarray":
            found = index.search(users, args.k + bought)[1].astype(np.int64)
            pairs = np.repeat(np.arange(args.users), bought) * args.items + exclude[1]
            keep = ~np.isin(np.arange(args.users)[:, None] * args.items + found, pairs)
            order = np.argsort(~keep, axis=1, kind="stable")[:, : args.k]
            return np.take_along_axis(found, order, axis=1)

        rows["FAISS"] = lambda: index.search(users, args.k)[1]
        rows["FAISS, over-fetch and filter"] = filtered
    turns = Turns(rows, args.repeats)

    print(f"{args.users:,} users x {args.items:,} items, d = {args.dim}, k = {args.k}, {args.threads} threads")
    turns.tell_seconds()
    if "FAISS" not in rows:
        print("  FAISS is not installed: its rows are left out")
    print("peer's time / topkin's time, at least, same ids as topkin")
    plain, barred = "topkin", "topkin, 40 exclusions"
    for ours, peer, least in (
        (plain, "bare product", 0.6),
        (plain, "NumPy argpartition", 1.0),
        (plain, "FAISS", 0.9),
        (barred, "FAISS, over-fetch and filter", 1.0),
    ):
        if peer in rows:
            theirs = turns.answers[peer]
            same = "" if theirs is None else f"{np.mean(np.asarray(theirs) == turns.answers[ours]):.4%}"
            turns.tell_ratio(ours, peer, least, same)


if __name__ == "__main__":
    main()

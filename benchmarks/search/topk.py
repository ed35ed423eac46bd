"""Exact top-k against its peers: one table of medians, each a ratio to the peer in the same run.

``python -m benchmarks.search.topk [--users 8192 --items 60000 --dim 64 --k 100 --threads 2 --repeats 5]``. The rows
run in turn, so that a slow moment hits all of them. Peers take part where they are installed. ``--vectors FILE`` takes
the arrays ``users`` and ``items`` of an encoder, as ``numpy.savez`` writes them, for those drawn at random; ``--few``
leaves out all peers but the product. By TensorFlow's products is how a run searches where the processor multiplies
bfloat16, see ``topkin.transforms.engine``.
"""

import argparse
import importlib.util
import os
from collections.abc import Callable
from typing import Any

from benchmarks._turns import Turns

OURS, BARRED, OURS_TF = "topkin", "topkin, 40 exclusions", "topkin, TensorFlow"
BOUGHT = 40


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    for name, value in {"users": 8192, "items": 60_000, "dim": 64, "k": 100, "threads": 2, "repeats": 5}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--vectors", help="file of vectors, of which the first --users users ask")
    parser.add_argument("--few", action="store_true", help="leave out all peers but the product")
    args = parser.parse_args()
    os.environ["OPENBLAS_NUM_THREADS"] = str(args.threads)  # read when NumPy is first imported
    import numpy as np

    from topkin.linalg.cosine import unit_rows
    from topkin.linalg.csr import Csr
    from topkin.search.topk import top_k

    rng = np.random.default_rng(0)
    users = unit_rows(rng.standard_normal((args.users, args.dim), dtype=np.float32))
    items = unit_rows(rng.standard_normal((args.items, args.dim), dtype=np.float32))
    if args.vectors:
        with np.load(args.vectors) as arrays:
            users, items = np.ascontiguousarray(arrays["users"][: args.users]), arrays["items"]
        args.users, (args.items, args.dim) = len(users), items.shape
    indptr = np.arange(args.users + 1) * BOUGHT
    exclude = Csr(indptr, rng.integers(args.items, size=indptr[-1]).astype(np.int32))
    blocks = [slice(s, s + 1024) for s in range(0, args.users, 1024)]

    def product() -> None:
        for s in blocks:
            users[s] @ items.T

    held = np.empty((1024, args.items), np.float32)

    def product_in_place() -> None:
        for s in blocks:
            np.matmul(users[s], items.T, out=held[: len(users[s])])

    def argpartition() -> "np.ndarray":
        lists = []
        for s in blocks:
            scores = users[s] @ items.T
            top = np.argpartition(scores, -args.k, axis=1)[:, -args.k :]
            order = np.argsort(-np.take_along_axis(scores, top, axis=1), axis=1)
            lists.append(np.take_along_axis(top, order, axis=1))
        return np.concatenate(lists)

    rows: dict[str, Callable[[], object]] = {
        OURS: lambda: top_k(users, items, args.k, threads=args.threads)[0],
        BARRED: lambda: top_k(users, items, args.k, exclude=exclude, threads=args.threads)[0],
        "bare product": product,
        "bare product, array reused": product_in_place,
    }
    by_tensorflow = tensorflow_rows(users, items, args.k, args.threads)
    if args.few:
        rows[OURS_TF] = by_tensorflow[OURS_TF]
    else:
        rows |= {
            "NumPy argpartition": argpartition,
            **faiss_rows(users, items, args.k, exclude, args.threads),
            **implicit_rows(users, items, args.k, args.threads),
            **by_tensorflow,
        }
    turns = Turns(rows, args.repeats)

    print(f"{args.users:,} users x {args.items:,} items, d = {args.dim}, k = {args.k}, {args.threads} threads")
    turns.tell_seconds()
    print("peer's time / topkin's time, at least, aim, places with the same item")
    for ours, peer, least, aim in (
        (OURS, "FAISS", 0.9, 1.1),
        (OURS, "implicit", 1.0, 2.0),
        (OURS, "TensorFlow matmul + top_k", 1.0, 2.0),
        (OURS, "NumPy argpartition", 1.0, 20.0),
        (BARRED, "FAISS, over-fetch and filter", 1.0, 2.0),
        (OURS, "bare product", 0.6, 0.85),
        (OURS, "bare product, array reused", 0.6, 0.85),
        (OURS_TF, "TensorFlow matmul + top_k", 1.0, 2.0),
        (OURS_TF, "bare product", 1.0, 2.0),
    ):
        if peer not in rows or ours not in rows:
            print(f"  {peer:32s} is not installed")
            continue
        theirs = turns.answers[peer]
        same = "" if theirs is None else f"{np.mean(np.asarray(theirs) == turns.answers[ours]):.4%}"
        same += " by TensorFlow's products" if ours == OURS_TF else ""
        turns.tell_ratio(ours, peer, least, same, aim)
    if "FAISS" in rows:
        tell_differences(users, items, np.asarray(turns.answers[OURS]), np.asarray(turns.answers["FAISS"]))


def tell_differences(users: Any, items: Any, ours: Any, theirs: Any) -> None:
    """Where FAISS lists another item: how far the two float64 scores are from each other."""
    import numpy as np

    row, place = np.nonzero(ours != theirs)
    a, b = (
        np.vecdot(users[row].astype(np.float64), items[ids[row, place]].astype(np.float64)) for ids in (ours, theirs)
    )
    missed = sum(len(set(mine) - set(yours)) for mine, yours in zip(ours, theirs, strict=True))
    higher = np.mean(a >= b) if len(row) else 1
    print(
        f"  places where FAISS has another item: {len(row)}, of scores at most {np.abs(a - b).max(initial=0):.1e} "
        f"apart, ours the higher or equal in {higher:.0%}; items listed by one alone: {missed}"
    )


def faiss_rows(users: Any, items: Any, k: int, exclude: Any, threads: int) -> dict[str, Callable[[], object]]:
    """FAISS's flat index, and the same asked for as many more as are excluded, which are then taken out."""
    if not importlib.util.find_spec("faiss"):
        return {}
    import faiss
    import numpy as np

    faiss.omp_set_num_threads(threads)
    index = faiss.IndexFlatIP(items.shape[1])
    index.add(items)

    def filtered() -> "np.ndarray":
        nearest = index.search(users, k + BOUGHT)[1].astype(np.int64)
        pairs = np.repeat(np.arange(len(users)), BOUGHT) * len(items) + exclude.indices
        keep = ~np.isin(np.arange(len(users))[:, None] * len(items) + nearest, pairs)
        order = np.argsort(~keep, axis=1, kind="stable")[:, :k]
        return np.take_along_axis(nearest, order, axis=1)

    return {"FAISS": lambda: index.search(users, k)[1], "FAISS, over-fetch and filter": filtered}


def implicit_rows(users: Any, items: Any, k: int, threads: int) -> dict[str, Callable[[], object]]:
    """implicit's top-k, its BLAS with one thread in each of its own, as it asks for."""
    if not importlib.util.find_spec("implicit"):
        return {}
    from implicit.cpu.topk import topk
    from threadpoolctl import threadpool_limits

    def run() -> object:
        with threadpool_limits(1, user_api="blas"):
            return topk(items, users, k, num_threads=threads)[0]

    return {"implicit": run}


def tensorflow_rows(users: Any, items: Any, k: int, threads: int) -> dict[str, Callable[[], object]]:
    """What TensorFlow Recommenders' brute force does, by blocks of users; and our search with TensorFlow's products."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import numpy as np
    import tensorflow as tf

    from topkin.models.ops.topk import tensorflow_engine
    from topkin.search.topk import top_k

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    held = tf.constant(items)

    @tf.function
    def brute_force(queries: Any) -> Any:
        return tf.math.top_k(tf.matmul(queries, held, transpose_b=True), k)[1]

    def peer() -> "np.ndarray":
        return np.concatenate([brute_force(users[s : s + 1024]).numpy() for s in range(0, len(users), 1024)])

    return {
        "TensorFlow matmul + top_k": peer,
        OURS_TF: lambda: top_k(users, items, k, threads=threads, engine=tensorflow_engine())[0],
    }


if __name__ == "__main__":
    main()

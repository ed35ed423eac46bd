"""Cosine similarity, batched, against its peers: one table of medians, each a ratio to the peer in the same run.

``python -m benchmarks.search.cosine [--batch 100 --n 400 --m 500 --dim 200 --threads 2 --repeats 9]``. Every row gives
(batch, n, m) cosines of float32 vectors; the rows run in turn, so that a slow moment hits all of them.
"""

import argparse
import os
from collections.abc import Callable

from benchmarks._turns import Turns


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    for name, value in {"batch": 100, "n": 400, "m": 500, "dim": 200, "threads": 2, "repeats": 9}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    args = parser.parse_args()
    os.environ["OPENBLAS_NUM_THREADS"] = str(args.threads)  # read when NumPy is first imported
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import numpy as np
    import tensorflow as tf
    from sklearn.metrics.pairwise import cosine_similarity

    from topkin.linalg.cosine import cosine_matrix
    from topkin.models.ops.cosine import cosine_matrix as cosine_matrix_tf

    tf.config.threading.set_intra_op_parallelism_threads(args.threads)
    rng = np.random.default_rng(0)
    a = rng.standard_normal((args.batch, args.n, args.dim), dtype=np.float32)
    b = rng.standard_normal((args.batch, args.m, args.dim), dtype=np.float32)
    a_tf, b_tf = tf.constant(a), tf.constant(b)

    def unit(x: "np.ndarray") -> "np.ndarray":
        return x / np.linalg.norm(x, axis=-1, keepdims=True)

    def lengths_after() -> "np.ndarray":
        """The product first, divided by both lengths: two more passes over the largest array."""
        lengths = np.linalg.norm(a, axis=-1)[..., None] * np.linalg.norm(b, axis=-1)[:, None, :]
        return np.einsum("bnd,bmd->bnm", a, b, optimize=True) / lengths

    def plain_tf() -> "tf.Tensor":
        return tf.matmul(tf.nn.l2_normalize(a_tf, -1), tf.nn.l2_normalize(b_tf, -1), transpose_b=True)

    ours_tf, plain_tf_graph = tf.function(lambda: cosine_matrix_tf(a_tf, b_tf)), tf.function(plain_tf)
    rows: dict[str, Callable[[], object]] = {
        "topkin, NumPy": lambda: cosine_matrix(a, b),
        "NumPy matmul of a / |a|": lambda: np.matmul(unit(a), np.swapaxes(unit(b), -1, -2)),
        "NumPy einsum, then / |a| |b|": lengths_after,
        "bare NumPy matmul": lambda: np.matmul(a, np.swapaxes(b, -1, -2)),
        "scikit-learn, batch by batch": lambda: np.stack([cosine_similarity(x, y) for x, y in zip(a, b, strict=True)]),
        "topkin, TensorFlow": lambda: ours_tf().numpy(),
        "TensorFlow l2_normalize, matmul": lambda: plain_tf_graph().numpy(),
    }
    turns = Turns(rows, args.repeats)

    print(f"{args.batch} x {args.n} x {args.m}, d = {args.dim}, float32, {args.threads} threads")
    turns.tell_seconds()
    print("peer's time / topkin's time, at least, largest difference of a cosine")
    for ours, peer, least in (
        ("topkin, NumPy", "bare NumPy matmul", 0.5),
        ("topkin, NumPy", "NumPy matmul of a / |a|", 0.8),
        ("topkin, NumPy", "NumPy einsum, then / |a| |b|", 1.0),
        ("topkin, NumPy", "scikit-learn, batch by batch", 1.0),
        # Ours divides by the largest coordinate first: where squares leave float32 the peer's cosines are wrong.
        ("topkin, TensorFlow", "TensorFlow l2_normalize, matmul", 0.6),
    ):
        apart = np.abs(np.asarray(turns.answers[peer]) - np.asarray(turns.answers[ours])).max()
        turns.tell_ratio(ours, peer, least, "" if peer.startswith("bare") else f"{apart:.1e}")


if __name__ == "__main__":
    main()

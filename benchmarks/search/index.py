"""The index against hnswlib: processor seconds to build, and queries a second at equal recall, one thread each.

``python -m benchmarks.search.index [--items 300000 --dim 64 --queries 2000 --repeats 5 --m 16 --ef 100 --peer-ef
200]``. Each builds with its default efConstruction; efSearch is raised until recall@10 passes .95, and the rate there
is read off between the two nearest settings: a graph built with less care must be asked more. hnswlib must be
installed.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable

import numpy as np

RECALL = 0.95
SEARCHED = (50, 100, 150, 200, 300, 400, 600, 800)


def vectors(n: int, dim: int, seed: int, centres: np.ndarray) -> np.ndarray:
    """Unit rows around centres, as items and users of some tastes lie, (n, dim) float32."""
    from topkin.linalg.cosine import unit_rows

    rng = np.random.default_rng(seed)
    return unit_rows((0.7 * centres[rng.integers(len(centres), size=n)] + rng.standard_normal((n, dim))).astype("f4"))


def rate(ask: Callable[[int], np.ndarray], exact: np.ndarray, repeats: int) -> tuple[float, list[str]]:
    """Queries a second at RECALL, and what was seen on the way."""
    seen: list[tuple[float, float]] = []
    trials = []
    for ef in SEARCHED:
        seconds = []
        for _ in range(repeats):
            start = time.process_time()
            lists = ask(ef)
            seconds.append(time.process_time() - start)
        recall = float(np.mean([len(np.intersect1d(a, b)) for a, b in zip(lists, exact, strict=True)])) / exact.shape[1]
        seen.append((recall, len(exact) / statistics.median(seconds)))
        trials.append(f"ef {ef}: {recall:.4f} at {seen[-1][1]:,.0f}/s")
        if recall > RECALL + 0.01:
            break
    recalls, rates = np.array(seen).T
    return float(np.exp(np.interp(RECALL, recalls, np.log(rates)))), trials


def main() -> None:
    """Build both, ask both, print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    numbers = {"items": 300_000, "dim": 64, "queries": 2000, "repeats": 5, "m": 16, "ef": 100, "peer-ef": 200, "k": 10}
    for name, value in numbers.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    args = parser.parse_args()
    import hnswlib
    import pyarrow as pa

    from topkin.config.sections import IndexSettings
    from topkin.search.hnsw.build import build_index
    from topkin.search.hnsw.files import load_index
    from topkin.search.topk import top_k

    centres = np.random.default_rng(0).standard_normal((500, args.dim))
    items, queries = vectors(args.items, args.dim, 1, centres), vectors(args.queries, args.dim, 2, centres)
    exact = top_k(queries, items, args.k)[0]
    ids = pa.array(range(args.items))
    how = IndexSettings(m=args.m, ef_construction=args.ef, sample=1)
    with tempfile.TemporaryDirectory() as folder:
        start = time.process_time()
        build_index(items, folder, how, 0, ids=ids, encoder="benchmark", threads=1)
        ours = time.process_time() - start
        index = load_index(folder)
    start = time.process_time()
    peer = hnswlib.Index("cosine", args.dim)
    peer.init_index(args.items, ef_construction=args.peer_ef, M=args.m)
    peer.add_items(items, num_threads=1)
    theirs = time.process_time() - start

    def ask(ef: int) -> np.ndarray:
        index.info["parameters"]["efSearch"] = ef
        return index.search(queries, args.k, threads=1)[0]

    def ask_peer(ef: int) -> np.ndarray:
        peer.set_ef(ef)
        return np.asarray(peer.knn_query(queries, args.k, num_threads=1)[0])

    built = f"M = {args.m}, efConstruction = {args.ef} and hnswlib's {args.peer_ef}"
    print(f"{args.items:,} x {args.dim}, {built}, one thread")
    (mine, trials), (yours, trials_peer) = rate(ask, exact, args.repeats), rate(ask_peer, exact, args.repeats)
    print(f"  topkin  built, written, read and measured in {ours:.1f} s; {'; '.join(trials)}")
    print(f"  hnswlib built in {theirs:.1f} s; {'; '.join(trials_peer)}")
    build, speed = ours / theirs, mine / yours
    print(
        f"  processor seconds to build   {build:6.2f} x hnswlib's, at most 2.50 x  {'ok' if build <= 2.5 else 'below'}"
    )
    print(
        f"  queries a second at recall {RECALL}: {mine:,.0f}, hnswlib {yours:,.0f}: "
        f"{speed:.2f} x, at least 0.80 x  {'ok' if speed >= 0.8 else 'below'}"
    )


if __name__ == "__main__":
    main()

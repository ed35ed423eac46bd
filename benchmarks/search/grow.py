"""A night's new items: an index grown from the published one against all built again, whole and measured.

``python -m benchmarks.search.grow [--items 60000 --dim 64 --new 1000 --queries 2000 --repeats 2]``. Both read nothing
but the vectors, write an index folder and measure its recall on a sample of 1,000 items. Beside the seconds: recall@10
and @50 of both over queries that are no items, and the share of the answers that both give.
"""

import argparse
import itertools
import tempfile
from pathlib import Path

import numpy as np

from benchmarks._turns import Turns
from benchmarks.search.index import vectors

BAR, AIM = 0.2, 0.05


def main() -> None:
    """Build the earlier index once, then grow and build in turn; print seconds, their ratio and both recalls."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    numbers = {"items": 60_000, "dim": 64, "new": 1000, "queries": 2000, "repeats": 2}
    for name, value in numbers.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    args = parser.parse_args()
    import pyarrow as pa

    from topkin.config.sections import IndexSettings
    from topkin.search.hnsw.build import build_index
    from topkin.search.hnsw.files import load_index
    from topkin.search.hnsw.grow import grow_index
    from topkin.search.topk import top_k

    centres = np.random.default_rng(0).standard_normal((500, args.dim))
    items, queries = (
        vectors(n, args.dim, seed, centres) for n, seed in ((args.items + args.new, 1), (args.queries, 2))
    )
    ids, how = pa.array(range(len(items))), IndexSettings()
    print(
        f"{args.new:,} items added to {args.items:,} x {args.dim}, M = {how.m}, efConstruction = {how.ef_construction}"
    )
    with tempfile.TemporaryDirectory() as folder:
        names = (str(Path(folder, str(n))) for n in itertools.count())
        earlier = next(names)
        build_index(items[: args.items], earlier, how, 0, ids=ids[: args.items], encoder="benchmark")

        def grow() -> str:
            info = grow_index(earlier, place := next(names), items, how, 0, ids=ids, encoder="benchmark")
            assert info["growth"]["taken"] == 1, info["growth"]
            return place

        def build() -> str:
            build_index(items, place := next(names), how, 0, ids=ids, encoder="benchmark")
            return place

        turns = Turns({"grown": grow, "built again": build}, args.repeats, warm_up=False)
        turns.tell_seconds()
        for k in (10, 50):
            exact = top_k(queries, items, k)[0]
            lists = [load_index(str(turns.answers[name])).search(queries, k)[0] for name in ("grown", "built again")]
            mine, again = (
                np.mean([len(np.intersect1d(a, b)) for a, b in zip(one, exact, strict=True)]) / k for one in lists
            )
            same = np.mean([len(np.intersect1d(a, b)) for a, b in zip(*lists, strict=True)]) / k
            print(f"  recall@{k}: grown {mine:.4f}, built again {again:.4f}; {same:.4f} of the answers are the same")
    for what, seconds in (("wall", turns.median), ("processors", turns.cpu)):
        ratio = seconds["grown"] / seconds["built again"]
        verdict = "ok" if ratio <= BAR else "above"
        print(f"  {what}: {ratio:.3f} x the time of building again, at most {BAR:.2f} x, aim {AIM:.2f} x  {verdict}")


if __name__ == "__main__":
    main()

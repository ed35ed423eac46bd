"""The recommend job against a bare loop over the same arrays: from embedding files to tables of lists.

``python -m benchmarks.jobs.recommend_job [--users 50000 --items 100000 --k 50 --repeats 5]``: d = 64. The bare loop
reads vectors with pyarrow, calls ``top_k`` and writes user, rank, item and score with pyarrow. The job also reads the
histories, keeps the rules, counts, and names reasons (``because``). Both are run for a fifth of the users too: what a
run costs whatever its users, and what a user costs, and from them the time for ``--whole`` users.
"""

import argparse
import os
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks._turns import Turns


def bare(folder: Path, out: Path, k: int) -> None:
    """Read, search, write: nothing else."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    from topkin.artifacts.embeddings import vectors_of
    from topkin.search.topk import top_k

    out.mkdir(exist_ok=True)
    items = pq.read_table(folder / "embeddings" / "items", columns=["item_id", "vector"])
    item_ids, vectors = items["item_id"].combine_chunks(), vectors_of(items)
    for path in sorted((folder / "embeddings" / "users").iterdir()):
        users = pq.read_table(path)
        ids, scores = top_k(vectors_of(users), vectors, k)
        lists = {
            "user_id": users["user_id"].take(pa.array(np.repeat(np.arange(len(users)), k))),
            "rank": np.tile(np.arange(1, k + 1, dtype=np.int32), len(users)),
            "item_id": item_ids.take(pa.array(ids.ravel())),
            "score": scores.ravel(),
        }
        pq.write_table(pa.table(lists), out / path.name, compression="zstd")


def whole_job(folder: Path, out: Path, k: int, because: int, parts: int) -> None:
    """The job, on Beam's local runner, in this process."""
    from benchmarks.jobs._embedded import job
    from topkin.config.sections import Settings
    from topkin.pipelines import recommend

    settings = {"purchases": {"path": "x"}, "run": {"parts": parts}, "recommend": {"k": k, "because": because}}
    recommend.STAGE.execute(job(folder, out, Settings.model_validate(settings)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    sizes = {"users": 50_000, "items": 100_000, "k": 50, "parts": 4, "history": 40, "repeats": 5, "whole": 1_000_000}
    for name, value in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["HOME"] = scratch  # Beam caches there
        measure(Path(scratch), args)


def measure(scratch: Path, args: Any) -> None:
    """Generate, run all in turn, and print."""
    from benchmarks.jobs._embedded import write

    sizes, rows = {"a fifth": args.users // 5, "all": args.users}, dict[str, Callable[[], object]]()
    for size, users in sizes.items():
        folder = scratch / size
        write(folder, users=users, items=args.items, history=args.history, dim=64, parts=args.parts)
        rows[f"bare loop, {size}"] = partial(bare, folder, folder / "bare", args.k)
        for because in (0, 3):
            out = folder / f"job-{because}"
            rows[f"job, because = {because}, {size}"] = partial(whole_job, folder, out, args.k, because, args.parts)
    turns = Turns(rows, args.repeats)

    print(f"{args.users:,} users with {args.history} purchases x {args.items:,} items, d = 64, k = {args.k}")
    turns.tell_seconds()
    print(f"the job's time / the bare loop's, at {args.users:,} users, and for {args.whole:,}: at most, aim")
    theirs = extrapolated(turns, "bare loop", args)
    for because in (0, 3):
        name = f"job, because = {because}"
        ours = extrapolated(turns, name, args)
        measured, ratio = turns.median[f"{name}, all"] / turns.median["bare loop, all"], ours / theirs
        print(
            f"  {name:20s} {measured:5.2f} x  {ratio:5.2f} x ({ours:.0f} s to {theirs:.0f} s)   1.30 x  1.10 x  "
            f"{'ok' if ratio <= 1.3 else 'below'}"
        )


def extrapolated(turns: Turns, name: str, args: Any) -> float:
    """Seconds for the whole number of users: what each more user costs, and what a run costs without any."""
    fifth, whole = turns.median[f"{name}, a fifth"], turns.median[f"{name}, all"]
    a_user = (whole - fifth) / (args.users - args.users // 5)
    return whole + a_user * (args.whole - args.users)


if __name__ == "__main__":
    main()

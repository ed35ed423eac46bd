"""Embedding users, from files to files, against a bare loop over the same files that calls the pooling itself.

``python -m benchmarks.jobs.embed [--users 1000000 --items 100000 --history 20 --dim 64 --repeats 5]``. The bare loop
reads the same columns with pyarrow, pools as many users a call, and writes Parquet with zstd and page checksums; a
second one has plain SciPy in place of topkin's pooling: no rule for repeats, ages or zero rows.
"""

import argparse
import tempfile
from pathlib import Path


def main() -> None:
    """Generate, run both in turn, print seconds and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    numbers = {"users": 1_000_000, "items": 100_000, "history": 20, "dim": 64, "parts": 16, "repeats": 5}
    for name, value in numbers.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--folder", type=Path, help="Scratch on a disk of its own; the system's without it.")
    args = parser.parse_args()
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq
    import scipy.sparse as sp

    from benchmarks._turns import Turns
    from benchmarks.jobs._embedded import AS_OF, ENCODER, write
    from topkin.artifacts import storage
    from topkin.artifacts.embeddings import read_items, vector_column
    from topkin.encoding.blocks import Block, user_vectors
    from topkin.interactions import Interactions, encode_ids
    from topkin.linalg.cosine import unit_rows
    from topkin.pipelines.engine.job import run_pipeline
    from topkin.transforms.embed import EmbedInputs, EmbedUsers

    with tempfile.TemporaryDirectory(dir=args.folder) as scratch:
        folder = Path(scratch)
        write(folder, **{name: getattr(args, name) for name in ("users", "items", "history", "dim", "parts")})
        summary = storage.read_json(str(folder / "embeddings" / "vectors.json"))
        signature = {"encoder": ENCODER, "blocks": summary["blocks"]}
        storage.write_json(signature, str(folder / "model" / "signature.json"))
        names = [storage.part_name(part, args.parts) for part in range(args.parts)]
        sources = EmbedInputs(
            prepared=str(folder / "prepared"),
            model=str(folder / "model"),
            parts=args.parts,
            batch_size=1024,
            history_length=512,
            as_of=AS_OF,
        )
        out = folder / "embeddings"

        def job() -> None:
            run_pipeline(lambda p: p | EmbedUsers(sources, str(out), str(folder / "tally.json")), [])

        def read(name: str) -> tuple["pa.Table", "pa.Table"]:
            columns = ["user_id", "items", "times", "weights"]
            return pq.read_table(folder / "prepared" / "histories" / name, columns=columns), pq.read_table(
                folder / "prepared" / "catalogue.parquet", columns=["item_id", "users"]
            )

        def keep(users: "pa.Table", vectors: "np.ndarray", name: str) -> None:
            table = pa.table({"user_id": users["user_id"], "vector": vector_column(vectors)})
            (folder / "bare").mkdir(exist_ok=True)
            pq.write_table(table, folder / "bare" / name, compression="zstd", write_page_checksum=True)

        def bare() -> None:
            blocks = [Block.from_json(b) for b in summary["blocks"]]
            in_vectors = read_items(str(out), ENCODER).in_vectors
            for name in names:
                users, catalogue = read(name)
                history, buyers = Interactions.from_histories(users, catalogue["item_id"], AS_OF), catalogue["users"]
                vectors = np.zeros((len(users), args.dim), np.float32)
                for at in range(0, len(users), 1024):
                    rows = np.arange(at, min(at + 1024, len(users)))
                    pooled = user_vectors(history.take(rows), in_vectors, np.asarray(buyers), blocks, length=512)
                    vectors[rows] = pooled
                keep(users, vectors, name)

        def plain() -> None:
            in_vectors = read_items(str(out), ENCODER).in_vectors
            for name in names:
                users, catalogue = read(name)
                lists = users["items"].combine_chunks()
                items = encode_ids(lists.flatten(), catalogue["item_id"])
                weights = np.maximum(np.asarray(catalogue["users"]), 1).astype(np.float32)[items] ** np.float32(-0.5)
                shape = len(users), len(catalogue)
                matrix = sp.csr_matrix((weights, items, np.asarray(lists.offsets)), shape)
                keep(users, unit_rows(matrix @ in_vectors), name)

        rows = {"topkin embed, users": job, "SciPy alone": plain, "bare loop": bare}
        turns = Turns(rows, args.repeats)
        print(f"{args.users:,} users of {args.history} purchases, {args.items:,} items, d = {args.dim}, one worker")
        turns.tell_seconds()
        for name in names:
            one, other = (pq.read_table(f / name)["vector"] for f in (out / "users", folder / "bare"))
            assert one.combine_chunks().flatten().equals(other.combine_chunks().flatten()), name
        turns.tell_ratio("topkin embed, users", "bare loop", 1 / 1.3, "same bytes", 1 / 1.1)
        print(f"  SciPy alone takes {turns.cpu['SciPy alone'] / turns.cpu['topkin embed, users']:.2f} x its processors")


if __name__ == "__main__":
    main()

"""Baselines fitted on purchases, their lists, and how they are kept between those who fit and those who score.

Use: ``BASELINES[name].make().fit(history).scores(some)`` gives a dense block of scores, and :func:`best_of` the lists
that they make, a block of users at a time. Both histories hold purchases before the cut, aged at the cut; ``some``
may be of users never fitted. On Online Retail, as its readme splits it, they give the figures printed there.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

import numpy as np
import pyarrow as pa

from topkin.artifacts import storage
from topkin.artifacts.partition import in_sample
from topkin.baselines.knn import ItemKNN
from topkin.baselines.registry import Baseline, make_baselines
from topkin.errors import ArtifactError
from topkin.interactions import Interactions
from topkin.linalg.csr import Csr
from topkin.linalg.mapped import MAPPED_FROM, mapped
from topkin.search.topk import BUDGET_BYTES, TopK, top_k_of_scores

_SAME = "same.json"  # of each baseline the arrays that lie with another's
CELL_BYTES = 32  # of a user and an item: the score, what it is made of, what ranks it


def fit_baselines(history: Interactions, names: Sequence[str], neighbours: int) -> dict[str, Baseline]:
    """The baselines of ``registry.make_baselines``, fitted on the purchases before the as-of date.

    Their large arrays lie on this machine's disk, as those of :func:`load_baselines`, while the next one is fitted.
    """
    fitted: dict[str, Baseline] = {}
    for name, baseline in make_baselines(names, neighbours).items():
        others = fitted.values()
        done = baseline.fit(history, others) if isinstance(baseline, ItemKNN) else baseline.fit(history)
        fitted[name] = done.restore({part: _on_disk(values) for part, values in done.state().items()})
    return fitted


def _on_disk(values: np.ndarray) -> np.ndarray:
    """The same values, mapped where they are large; an array that is mapped is itself."""
    if values.nbytes < MAPPED_FROM or isinstance(values.base, np.memmap):
        return values
    copy = mapped(values.shape, values.dtype)
    copy[...] = values
    return copy


def best_of(
    baseline: Baseline,
    history: Interactions,
    k: int,
    *,
    exclude: Csr | None = None,
    allowed: np.ndarray | None = None,
    budget_bytes: int = BUDGET_BYTES,
) -> TopK:
    """The k items that a fitted baseline scores highest for each user.

    Args:
        baseline: Fitted.
        history: The users' purchases; ``exclude=history.pattern`` leaves out what they bought.
        k: Items per user.
        exclude: Items that each user may not get.
        allowed: (n_items,) bool.
        budget_bytes: Bound of the working memory, but for one user's row and what the baseline needs beside its scores.

    Returns:
        ids (n, k) int32 and scores (n, k) float32, padded and ordered as by ``topk.top_k_of_scores``.
    """
    ids, scores = np.full((history.n_users, k), -1, np.int32), np.full((history.n_users, k), -np.inf, np.float32)
    rows = max(1, budget_bytes // (CELL_BYTES * max(history.n_items, 1)))
    for start in range(0, history.n_users, rows):
        users = np.arange(start, min(start + rows, history.n_users))
        barred = None if exclude is None else exclude.take(users)
        block = baseline.scores(history.take(users))
        ids[users], scores[users] = top_k_of_scores(block, k, exclude=barred, allowed=allowed)
    return ids, scores


def known_purchases(
    prepared: str,
    parts: int,
    item_ids: pa.Array | pa.ChunkedArray,
    as_of: datetime,
    *,
    share: float = 1.0,
    seed: int = 0,
) -> list[Interactions]:
    """What each part's users bought before the as-of date, from a folder of the stage prepare.

    A part is read at a time, as item numbers: the ids of all purchases need not fit in memory, nor in one Arrow array.
    share, seed: of a share below 1, those of the users that ``partition.in_sample`` draws.
    """
    files = [storage.join(prepared, "histories", storage.part_name(part, parts)) for part in range(parts)]
    columns = ["items", "times", "weights"]
    if share >= 1:
        tables = (storage.read_parquet(file, columns) for file in files)
    else:
        whole = (storage.read_parquet(file, ["user_id", *columns]) for file in files)
        tables = (table.filter(pa.array(in_sample(table["user_id"], share, seed))) for table in whole)
    return [Interactions.from_histories(table, item_ids, as_of) for table in tables]


def save_baselines(baselines: Mapping[str, Baseline], folder: str) -> None:
    """Write what baselines learned, an array a file; an array that several have is written once."""
    written: dict[int, str] = {}
    same: dict[str, dict[str, str]] = {}
    for name, baseline in baselines.items():
        for part, values in baseline.state().items():
            path = f"{name}/{part}.parquet"
            if (first := written.setdefault(id(values), path)) != path:
                same.setdefault(name, {})[part] = first
                continue
            table = pa.table({"values": values.reshape(-1)}, metadata={"shape": ",".join(map(str, values.shape))})
            storage.write_parquet(table, storage.join(folder, path))
    storage.write_json(same, storage.join(folder, _SAME))


def load_baselines(folder: str, names: Sequence[str], neighbours: int) -> dict[str, Baseline]:
    """The baselines of ``registry.make_baselines`` with what :func:`save_baselines` wrote; shared arrays are shared.

    An array of ``MAPPED_FROM`` bytes or more, such as the neighbours of millions of items, lies on this machine's disk:
    a block of users reads the rows of its items. Raises ArtifactError where a file is missing or damaged.
    """
    path = storage.join(folder, _SAME)
    same = storage.read_json(path) if storage.exists(path) else {}
    read: dict[str, np.ndarray] = {}

    def array(path: str) -> np.ndarray:
        if path not in read:
            read[path] = _read_array(storage.join(folder, path))
        return read[path]

    restored: dict[str, Baseline] = {}
    for name, baseline in make_baselines(names, neighbours).items():
        files = storage.files(storage.join(folder, name))
        paths = {file.removesuffix(".parquet"): f"{name}/{file}" for file in files} | same.get(name, {})
        if not paths:
            raise ArtifactError(f"{folder} holds no baseline {name}: run topkin evaluate again with --force")
        restored[name] = baseline.restore({part: array(path) for part, path in paths.items()})
    return restored


def _read_array(path: str) -> np.ndarray:
    """An array that :func:`save_baselines` wrote, in memory or, where it is large, mapped; read in pieces."""
    with storage.open_parquet(path) as file:
        schema, n = file.schema_arrow, file.metadata.num_rows
        dtype = np.dtype(schema.field("values").type.to_pandas_dtype())
        large = n * dtype.itemsize >= MAPPED_FROM
        values, start = mapped((n,), dtype) if large else np.empty(n, dtype), 0
        for batch in file.iter_batches():
            values[start : start + len(batch)] = batch.column(0)
            start += len(batch)
    return values.reshape([int(n) for n in schema.metadata[b"shape"].split(b",")])

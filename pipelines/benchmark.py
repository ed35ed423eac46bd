"""``topkin benchmark``: an encoder made by a preset on a public split, judged as published models are.

``gowalla``: a folder with ``train.parquet`` and ``test.parquet`` of user_id and item_id; all items are ranked for
every user of the test part, train items masked. ``retail``: any configuration, at a cut date.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from topkin.artifacts import storage
from topkin.config.sections import IndexSettings, TrainSettings
from topkin.errors import ConfigError, InputError
from topkin.evaluation.published import GOWALLA
from topkin.linalg.csr import Csr
from topkin.metrics.ranking import ranking_metrics
from topkin.pipelines.cli import logs
from topkin.pipelines.cli.commands import CommandOptions
from topkin.telemetry.profiling import measure_usage

AT = 20
USERS_AT_ONCE = 4096


@dataclass(frozen=True)
class BenchmarkSplit:
    """Pairs of two parts by number. item_ids: the train part's, ascending. test: by train user."""

    users: np.ndarray
    items: np.ndarray
    item_ids: pa.Array
    test: Csr
    unknown: int


def read_split(folder: str) -> BenchmarkSplit:
    """The two parts of a folder. Raises InputError where a file or a column is missing.

    Test pairs of users or items that the train part lacks cannot be found by any model: they are counted as unknown.
    """
    parts = {}
    for name in ("train", "test"):
        path = storage.join(folder, f"{name}.parquet")
        if not storage.exists(path):
            raise InputError(
                f"--data must be a folder with train.parquet and test.parquet, {path} is not there: name another"
            )
        parts[name] = storage.read_parquet(path)
        if missing := {"user_id", "item_id"} - set(parts[name].column_names):
            raise InputError(
                f"{path} must have the columns user_id and item_id, it lacks {', '.join(sorted(missing))}: "
                f"it has {', '.join(parts[name].column_names)}"
            )
    if not len(parts["train"]):
        raise InputError(f"{storage.join(folder, 'train.parquet')} must have rows, got none")
    numbers = {}
    for column in ("user_id", "item_id"):
        ids = pc.unique(parts["train"][column]).sort()
        numbers[column] = ids
        if parts["test"][column].type != ids.type:
            raise InputError(
                f"{column} must be of one type in both files, got {ids.type} and {parts['test'][column].type}"
            )
    at = {
        (name, column): np.asarray(pc.fill_null(pc.index_in(table[column], numbers[column]), -1)).astype(np.int64)
        for name, table in parts.items()
        for column in numbers
    }
    users, items = at["test", "user_id"], at["test", "item_id"]
    in_train = (users >= 0) & (items >= 0)
    test = Csr.of_pairs(users[in_train], items[in_train], len(numbers["user_id"]), len(numbers["item_id"]))
    return BenchmarkSplit(
        at["train", "user_id"], at["train", "item_id"], numbers["item_id"], test, int((~in_train).sum())
    )


def measure_split(folder: str, train: TrainSettings, seed: int, index: IndexSettings | None = None) -> dict[str, Any]:
    """Make an encoder on the train part and judge it on the test part.

    seconds: from opening the files to the finished encoder. peak_mb: of the process meanwhile. With ``index`` the
    recall of an NMSLIB index over the item vectors is measured too, over all users, against exact search.
    """
    from topkin.models.data.in_memory import bare_catalogue, without_times
    from topkin.models.ops import device
    from topkin.models.training.context import TrainingContext
    from topkin.models.training.fit import fit
    from topkin.models.training.validation import METRIC

    device.set_up(deterministic=True)
    with measure_usage() as usage:
        split = read_split(folder)
        purchases = without_times(split.users, split.items, split.item_ids, seed=seed)
        context = TrainingContext(train=train, seed=seed, recent_days=7).untimed()
        training = fit(context, purchases, bare_catalogue(purchases))
    encoder, selection = training.encoder, training.selection
    part = purchases.parts[0]
    buyers = np.bincount(part.distinct().items, minlength=part.n_items)
    vectors, in_vectors = encoder.encode_items(bare_catalogue(purchases))
    users = encoder.encode_users(part, in_vectors, buyers)
    result = {
        "preset": train.preset,
        "seed": seed,
        "dim": encoder.dim,
        "seconds": round(usage.seconds, 1),
        "peak_mb": round(usage.peak_bytes / 1e6),
        **judged(users, vectors, part.pattern, split.test),
        "users": int((split.test.lengths > 0).sum()),
        "test_pairs_unknown": split.unknown,
        "blocks": {b.name: {"dim": b.dim, "weight": b.weight} for b in encoder.blocks},
        "validation": selection.validation,
        "curve": [round(epoch[f"validation_{METRIC}"], 4) for epoch in selection.curve],
        "epochs": len(training.epochs),
        "left_out": selection.left_out,
    }
    if index is not None:
        result["index"] = index_recall(vectors, users, split.item_ids, index, seed)
    return result


def judged(users: np.ndarray, vectors: np.ndarray, train: Csr, test: Csr) -> dict[str, float]:
    """Mean recall@20 and NDCG@20 over the users with test items, all items ranked but the user's train items."""
    from topkin.search.topk import top_k

    sums, judged_users = np.zeros(2), np.flatnonzero(test.lengths)
    for start in range(0, len(judged_users), USERS_AT_ONCE):
        rows = judged_users[start : start + USERS_AT_ONCE]
        ids, _ = top_k(users[rows], vectors, AT, exclude=train.take(rows))
        metrics = ranking_metrics(ids, test.take(rows), (AT,))
        sums += [metrics[f"recall@{AT}"].sum(), metrics[f"ndcg@{AT}"].sum()]
    recall, ndcg = sums / max(len(judged_users), 1)
    return {f"recall@{AT}": round(float(recall), 4), f"ndcg@{AT}": round(float(ndcg), 4)}


def index_recall(
    vectors: np.ndarray, users: np.ndarray, ids: pa.Array, settings: IndexSettings, seed: int
) -> dict[str, Any]:
    """What ``hnsw.build.build_index`` measures, over all users."""
    import tempfile

    from topkin.search.hnsw.build import build_index

    every = settings.model_copy(update={"sample": len(users)})
    with tempfile.TemporaryDirectory(prefix="topkin-benchmark-") as folder:
        built = build_index(vectors, folder, every, seed, ids=ids, encoder="benchmark", queries=users)
    return dict(built["recall"])


def table(result: Mapping[str, Any]) -> str:
    """The result among the published ones, best NDCG first."""
    ours = f"topkin {result['preset']}, {result['dim']} dims"
    rows = {**GOWALLA, ours: (result[f"recall@{AT}"], result[f"ndcg@{AT}"])}
    lines = [f"{'':32s} recall@{AT}  ndcg@{AT}"]
    for name, (recall, ndcg) in sorted(rows.items(), key=lambda row: -row[1][1]):
        lines.append(f"{'> ' if name == ours else '  '}{name:30s} {recall:9.4f} {ndcg:8.4f}")
    lines.append(f"{result['seconds']} s from files to encoder, {result['peak_mb']} MB at most, seed {result['seed']}")
    if "index" in result:
        lines.append(f"index against exact search: {json.dumps(result['index'])}")
    return "\n".join(lines)


def main(name: str, options: CommandOptions, data: str | None, *, index: bool) -> None:
    """``topkin benchmark``."""
    if name == "gowalla":
        _gowalla(options, data, index)
    elif name == "retail":
        _retail(options)
    else:
        raise ConfigError(f"topkin benchmark takes gowalla or retail, got {name!r}")


def _gowalla(options: CommandOptions, data: str | None, index: bool) -> None:
    from topkin.config.load import settings_without_file

    if data is None:
        raise ConfigError("--data must name the folder with train.parquet and test.parquet of the split")
    settings = settings_without_file(data, options.sets or ())
    logs.silence()
    result = measure_split(data, settings.train, settings.run.seed, settings.index if index else None)
    print(json.dumps(result) if options.json else table(result))


def _retail(options: CommandOptions) -> None:
    """One cut of a back-test, with what it cost."""
    from topkin.pipelines import backtest

    if options.as_of is None:
        raise ConfigError("--cut must be the date before which purchases are known, as in --cut 2011-11-09")
    backtest.main(replace(options, as_of=None), options.as_of, None)

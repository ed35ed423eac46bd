"""Splits of pairs, without order and times: an encoder made on the train part and judged on the test part, in memory.

A folder with ``train.parquet`` and ``test.parquet`` of user_id and item_id; all items are ranked for every user of the
test part, train items masked.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from topkin.artifacts import storage
from topkin.baselines import registry
from topkin.baselines.fitted import best_of
from topkin.config.sections import EvaluateSettings, IndexSettings, TrainSettings
from topkin.errors import InputError
from topkin.evaluation.published import published_on
from topkin.evaluation.results import mean
from topkin.interactions import Interactions
from topkin.linalg.csr import Csr
from topkin.metrics.bootstrap import bootstrap
from topkin.metrics.ranking import ranking_metrics
from topkin.pipelines.benchmarks.staged import KS, RULES
from topkin.pipelines.benchmarks.table import ranked_by
from topkin.recommend.second.stage import SecondStage
from topkin.telemetry.profiling import measure_usage

AT = 20
SHOWN = (f"recall@{AT}", f"ndcg@{AT}")
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


def measure_split(
    folder: str,
    train: TrainSettings,
    seed: int,
    index: IndexSettings | None = None,
    *,
    evaluate: EvaluateSettings,
    sources: Sequence[str] = (),
    keep_bought: bool = False,
) -> dict[str, Any]:
    """Make an encoder on the train part and judge it, and the baselines beside it, on the test part.

    seconds: from opening the files to the finished encoder. peak_mb: of the process meanwhile. With ``index`` the
    recall of an NMSLIB index over the item vectors is measured too, over all users, against exact search. evaluate: the
    baselines, and the resamples of the intervals. sources: ``recommend.sources``, which stand beside the encoder where
    validation says so. keep_bought: whether train items are ranked; the encoder then ranks alone, as validation ranks
    new items.
    """
    from topkin.models.data.in_memory import bare_catalogue, without_times
    from topkin.models.ops import device
    from topkin.models.training.context import TrainingContext
    from topkin.models.training.fit import fit
    from topkin.models.training.validation import METRIC

    device.set_up()
    with device.repeatable(), measure_usage() as usage:
        split = read_split(folder)
        purchases = without_times(split.users, split.items, split.item_ids, seed=seed)
        tried = () if keep_bought else tuple(sources)
        context = TrainingContext(train=train, seed=seed, recent_days=7, sources=tried, neighbours=evaluate.neighbours)
        context = context.untimed()
        training = fit(context, purchases, bare_catalogue(purchases))
    encoder, selection = training.encoder, training.selection
    part = purchases.parts[0]
    buyers = np.bincount(part.distinct().items, minlength=part.n_items)
    vectors, in_vectors = encoder.encode_items(bare_catalogue(purchases))
    users = encoder.encode_users(part, in_vectors, buyers)
    judged_users = np.flatnonzero(split.test.lengths)
    if not len(judged_users):
        raise InputError(
            f"{storage.join(folder, 'test.parquet')} must have pairs of users and items of the train part, got none"
        )
    weights = training.blend["weights"]
    second = SecondStage.fitted(weights, part, evaluate.neighbours) if weights else None
    values = {"model": judged(users, vectors, part, split.test, keep_bought=keep_bought, second=second)}
    names = [name for name in evaluate.baselines if registry.BASELINES[name].tells(times=False, order=False)]
    known, truth = part.take(judged_users), split.test.take(judged_users)
    for name, baseline in registry.make_baselines(names, evaluate.neighbours).items():
        exclude = None if keep_bought else known.pattern
        ids, _ = best_of(baseline.fit(part), known, max(KS), exclude=exclude)
        values[name] = ranking_metrics(ids, truth, KS)
    metrics = {name: {metric: mean(v) for metric, v in own.items()} for name, own in values.items()}
    differences, chance = _differences(values, evaluate.bootstrap, seed)
    notes = ["" if selection.curve else selection.stopped, selection.left_out, ranked_by(weights)]
    sizes = len(part.indptr) - 1, part.n_items, len(part.distinct().items), len(split.test.indices) + split.unknown
    peers = published_on(*sizes) if not keep_bought else None
    result = {
        "preset": train.preset,
        "seed": seed,
        "dim": encoder.dim,
        "seconds": round(usage.seconds, 1),
        "peak_mb": round(usage.peak_bytes / 1e6),
        **{name: round(metrics["model"][name], 4) for name in SHOWN},
        "users": len(judged_users),
        "items": part.n_items,
        "rule": RULES[keep_bought],
        "shown": list(SHOWN),
        "metrics": metrics,
        "differences": differences,
        "p": chance,
        "published": peers and peers.to_json(),
        "not_measured": registry.left_out(names),
        "test_pairs_unknown": split.unknown,
        "blocks": {b.name: {"dim": b.dim, "weight": b.weight} for b in encoder.blocks},
        "validation": selection.validation,
        "second_stage": dict(training.blend),
        "curve": [round(epoch[f"validation_{METRIC}"], 4) for epoch in selection.curve],
        "epochs": len(training.epochs),
        "left_out": selection.left_out,
        "notes": [note for note in notes if note],
    }
    if index is not None:
        result["index"] = index_recall(vectors, users, split.item_ids, index, seed)
    return result


def judged(
    users: np.ndarray,
    vectors: np.ndarray,
    part: Interactions,
    test: Csr,
    *,
    keep_bought: bool,
    second: SecondStage | None,
) -> dict[str, np.ndarray]:
    """Every metric of the users with test items, all items ranked but their train items, (n,) each.

    part: the train part. keep_bought: whether train items are ranked too. second: what ranks in the encoder's place.
    """
    from topkin.search.topk import top_k

    parts, rows, everything = [], np.flatnonzero(test.lengths), np.ones(len(vectors), bool)
    for start in range(0, len(rows), USERS_AT_ONCE):
        some = rows[start : start + USERS_AT_ONCE]
        history, k = part.take(some), max(KS)
        exclude = None if keep_bought else history.pattern
        ids, _ = top_k(users[some], vectors, k if second is None else second.depth(k), exclude=exclude)
        if second is not None:
            ids = second.ranked(
                *(ids, k),
                history=history,
                exclude=history.pattern,
                queries=users[some],
                vectors=vectors,
                allowed=everything,
            ).ids
        parts.append(ranking_metrics(ids, test.take(some), KS))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _differences(
    values: Mapping[str, Mapping[str, np.ndarray]], resamples: int, seed: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The model's metrics less each baseline's, [low, mean, high] over users by metric, and the p-values."""
    apart: dict[str, Any] = {}
    chance: dict[str, Any] = {}
    for name in [name for name in values if name != "model"]:
        metrics = list(values[name])
        both = np.stack([values["model"][m] - values[name][m] for m in metrics], axis=1)
        bounds = bootstrap(both, resamples, seed)
        ends = zip(metrics, bounds.low, both.T, bounds.high, strict=True)
        apart[name] = {m: [float(low), mean(own), float(high)] for m, low, own, high in ends}
        chance[name] = dict(zip(metrics, map(float, bounds.p), strict=True))
    return apart, chance


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

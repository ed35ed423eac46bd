"""Benchmarks by the stages of a run: leave-one-out, and split files with an order or with times.

Nothing is published. The runs lie in a folder that is removed, unless ``run.output`` was set; what the stages made
there is then taken as it is the next time.
"""

import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from topkin.artifacts import storage
from topkin.config.as_of import parse_as_of
from topkin.config.load import settings_without_file
from topkin.config.sections import Settings
from topkin.errors import ArtifactError, InputError
from topkin.evaluation.published import published_on
from topkin.ingest import timestamps
from topkin.pipelines.benchmarks.table import ranked_by
from topkin.pipelines.engine import stages
from topkin.recommend.second.chosen import blend_of, read_blend
from topkin.telemetry.profiling import measure_usage

KS = (10, 20)
COLUMNS = ("order", "timestamp")
"""What orders purchases in split files, the first that is there."""
ITEMS = ("title", "category", "price")

Tell = Callable[[stages.Event], None]


def sequence_settings(folder: str, sets: Sequence[str]) -> Settings:
    """The settings of a folder with ``purchases.parquet`` and, if there is one, ``items.parquet``.

    Columns by the names that topkin gives them: user_id, item_id and order or timestamp; rows order themselves without
    either. Times are an order and no more: each user's last purchase is held out, whenever that was, so that no period
    before it could be validated on, and what sells at the end is no use to who left early. Raises InputError where the
    file or a column is missing.
    """
    path = storage.join(folder, "purchases.parquet")
    columns = _columns(path)
    by = next((name for name in COLUMNS if name in columns), None)
    own = [f"purchases.order={by or 'row'}", *(_times_as_numbers(path, "purchases") if by == "timestamp" else ())]
    items = storage.join(folder, "items.parquet")
    if storage.exists(items):
        own.append(f"items.path={items}")
        own += [f"items.{name}={name}" for name in ITEMS if name in _schema(items).names]
    return settings_without_file(path, [*own, *sets])


def split_settings(folder: str, sets: Sequence[str]) -> tuple[Settings, datetime] | None:
    """The settings and the as-of date of split files with an order or with times; None where they have neither.

    Times by which one user is held out before another is learned from, as in most splits by user, order and no more.
    """
    paths = [storage.join(folder, f"{name}.parquet") for name in ("train", "test")]
    shared = set(_columns(paths[0])) & set(_columns(paths[1]))
    by = next((name for name in COLUMNS if name in shared), None)
    if by is None:
        return None
    own, as_of = [f"heldout.path={paths[1]}"], parse_as_of(None)
    if by == "timestamp":
        train, test = (_micros(path) for path in paths)
        if train.max() < test.min():
            as_of = np.datetime64(int(test.min()), "us").item()
            return settings_without_file(paths[0], [*own, *sets]), as_of
        own += [*_times_as_numbers(paths[0], "purchases"), *_times_as_numbers(paths[0], "heldout")]
    own += [f"{section}.order={by}" for section in ("purchases", "heldout")]
    return settings_without_file(paths[0], [*own, *sets]), as_of


def _times_as_numbers(path: str, section: str) -> list[str]:
    """What makes a number of a file's column timestamp in a section; nothing where it is one. Text may hold either."""
    kind = _schema(path).field("timestamp").type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return []
    number = "epoch_us(TRY_CAST(timestamp AS TIMESTAMP))"
    text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    return [
        f"{section}.normalise.timestamp=" + (f"coalesce(TRY_CAST(timestamp AS DOUBLE), {number})" if text else number)
    ]


def _columns(path: str) -> list[str]:
    if not storage.exists(path):
        raise InputError(f"--data must be a folder with {path.rpartition('/')[2]}, {path} is not there: name another")
    columns: list[str] = _schema(path).names
    if missing := {"user_id", "item_id"} - set(columns):
        raise InputError(
            f"{path} must have the columns user_id and item_id, it lacks {', '.join(sorted(missing))}: "
            f"it has {', '.join(columns)}"
        )
    return columns


def _schema(path: str) -> pa.Schema:
    with storage.open_parquet(path) as file:
        return file.schema_arrow


def _micros(path: str) -> np.ndarray:
    """The times of a file that can be read, (n,) int64 microseconds. Raises InputError where there are none."""
    micros, state = timestamps.to_micros(storage.read_parquet(path, ["timestamp"])["timestamp"], "auto")
    read = micros[state == timestamps.READ]
    if not len(read):
        raise InputError(f"{path}: its column timestamp holds no time that can be read: rename it, or name it order")
    return np.asarray(read)


def measure_sequence(settings: Settings, *, keep_bought: bool, tell: Tell) -> dict[str, Any]:
    """Hold out the last position, or the last time, of each user, and judge the lists of all items by it."""
    update = {"prepare": settings.prepare.model_copy(update={"split": "last"}), "heldout": None}
    return _measured(settings.model_copy(update=update), None, ("hit_rate", "ndcg"), keep_bought, tell)


def measure_dated(settings: Settings, as_of: datetime, *, keep_bought: bool, tell: Tell) -> dict[str, Any]:
    """Learn from the train part and judge by the test part, as a run with a section ``[heldout]`` does."""
    return _measured(settings, as_of, ("recall", "ndcg"), keep_bought, tell)


def _measured(
    settings: Settings, as_of: datetime | None, shown: Sequence[str], keep_bought: bool, tell: Tell
) -> dict[str, Any]:
    evaluate = settings.evaluate.model_copy(update={"k": KS, "days": None, "hindsight": (), "nightly": "off"})
    publish = settings.publish.model_copy(update={"metric": f"ndcg@{KS[0]}"})
    rule = settings.recommend.bought
    bought = (rule if rule in ("keep", "boost") else "keep") if keep_bought else "exclude"
    recommend = settings.recommend.model_copy(update={"bought": bought})
    train = settings.train.model_copy(update={"every_days": 0})  # what is published is no matter of a benchmark
    update: dict[str, Any] = {"evaluate": evaluate, "recommend": recommend, "publish": publish, "train": train}
    notes: list[str] = []
    counted: set[str] = set()
    seconds = 0.0

    def record(event: stages.Event) -> None:
        nonlocal seconds
        if event.state == "reused" and event.stage in counted:  # each stage adopts what it needs
            return
        counted.add(event.stage)
        if event.stage in ("prepare", "train"):
            seconds += event.seconds
        if event.stage == "train" and event.summary is not None:
            notes[:] = event.summary.get("notes", ())
        tell(event)

    with ExitStack() as stack, measure_usage() as usage:
        if "output" not in settings.run.model_fields_set:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="topkin-benchmark-"))
            update["run"] = settings.run.model_copy(update={"output": folder})
        settings = settings.model_copy(update=update)
        if as_of is None:
            as_of = _after_the_last(settings, tell) if settings.timed else parse_as_of(None)
        for stage in stages.needed("evaluate", settings):
            run = stages.run_stages(settings, as_of=as_of, only=stage, tell=record)
        metrics = storage.read_json(storage.join(run.folder("evaluate"), "metrics.json"))
        training = storage.read_json(storage.join(run.folder("train"), "training.json"))
        blend = read_blend(run.folder("train"))
        signature = storage.read_json(storage.join(run.folder("train"), "signature.json"))
        known = storage.read_json(storage.join(run.folder("prepare"), "statistics.json"))["events"]
        sold = storage.read_parquet(storage.join(run.folder("prepare"), "catalogue.parquet"), ["events"])["events"]
        items = len(sold)
    protocol = "all" if keep_bought else "novel"
    heldout = metrics["heldout"]
    peers = published_on(heldout["users_in_period"], pc.sum(pc.greater(sold, 0)).as_py(), known, heldout["events"])
    if not metrics[protocol]:
        raise InputError(f"nothing can be judged: {heldout['reason'] or 'all held out was bought before'}")
    return {
        "preset": settings.train.preset,
        "seed": settings.run.seed,
        "dim": sum(block["dim"] for block in signature["blocks"]),
        "seconds": round(seconds, 1),
        "peak_mb": round(usage.peak_bytes / 1e6),
        "users": heldout["users" if keep_bought else "novel_users"],
        "items": items,
        "rule": RULES[keep_bought],
        "shown": [f"{name}@{k}" for k in KS for name in shown],
        "metrics": metrics[protocol],
        "differences": metrics["differences"][protocol],
        "p": metrics["p"][protocol],
        "protocols": {
            name: {
                "metrics": metrics[name],
                "differences": metrics["differences"].get(name),
                "p": metrics["p"].get(name),
            }
            for name in ("all", "novel", "repeat")
        },
        "published": peers.to_json() if peers and not keep_bought else None,
        "not_measured": metrics["left_out"],
        "blocks": {block["name"]: {"dim": block["dim"], "weight": block["weight"]} for block in signature["blocks"]},
        "validation": metrics["validation"],
        "second_stage": blend,
        "epochs": len(training.get("refit", ())),  # none where vectors are given
        "left_out": training.get("left_out", ""),
        "heldout": heldout,
        "notes": [*notes, *filter(None, [ranked_by(blend_of(settings.recommend, blend) or {})])],
    }


RULES = {False: "what a user bought before is not ranked", True: "what a user bought before is ranked too"}


def _after_the_last(settings: Settings, tell: Tell) -> datetime:
    """A moment after the last purchase that the input has, by preparing all of it."""
    whole = settings.model_copy(update={"prepare": settings.prepare.model_copy(update={"split": "time"})})
    run = stages.run_stages(whole, as_of=parse_as_of(None), only="prepare", tell=tell)
    statistics = storage.read_json(storage.join(run.folder("prepare"), "statistics.json"))
    if statistics["last_sale"] is None:
        raise ArtifactError("no purchase was accepted, so that there is none to hold out: topkin check says why")
    return datetime.fromisoformat(statistics["last_sale"]).replace(microsecond=0) + timedelta(days=1)

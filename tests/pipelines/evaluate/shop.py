"""Folders of the stages before the evaluation, written by hand: a shop whose right answers are known."""

import json
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from topkin.artifacts import schemas, storage
from topkin.artifacts.partition import split_by_partition
from topkin.config.sections import Settings
from topkin.encoding.blocks import Block
from topkin.pipelines.engine.job import Job

AS_OF = datetime(2024, 6, 1)
ENCODER = "e" * 64
Purchase = tuple[Any, Any, datetime]


def taste(dim: int) -> dict[str, object]:
    """A block of the first coordinates."""
    block = Block(name="trained", dim=dim, weight=1, inverse_popularity=0.5, half_life_days=None, spread=(1.0,) * dim)
    return block.to_json()


def write_run(
    root: Path,
    purchases: Sequence[Purchase],
    vectors: dict[Any, np.ndarray],
    *,
    parts: int = 3,
    titles: dict[Any, str] | None = None,
    categories: dict[Any, str] | None = None,
    extra_users: Sequence[Any] = (),
    bought: str = "exclude",
    rejected: dict[str, int] | None = None,
    training: dict[str, Any] | None = None,
    **settings: Any,
) -> Job:
    """The folders of the stages before the evaluation, from purchases (user, item, time) and item vectors.

    A user's vector is the mean of the items'; the published lists are the nearest items under the rule.
    """
    known = [p for p in purchases if p[2] < AS_OF]
    later = [p for p in purchases if p[2] >= AS_OF]
    user_type = pa.array([p[0] for p in purchases] + list(extra_users)).type
    ids = sorted(vectors)
    item_type = pa.array(ids).type
    matrix = np.array([vectors[i] for i in ids], np.float32)
    run = root / "runs" / "2024-06-01-test"
    sold = Counter(p[1] for p in known)
    times: dict[Any, list[datetime]] = {}
    for _, item, time in known:
        times.setdefault(item, []).append(time)
    catalogue = pa.table(
        [
            pa.array(ids, item_type),
            pa.array([(titles or {}).get(i, f"Title of {i}") for i in ids], pa.string()),
            pa.array([(categories or {}).get(i) for i in ids], pa.string()),
            pa.array([1.0] * len(ids), pa.float32()),
            pa.array([True] * len(ids)),
            pa.array([sold[i] for i in ids], pa.int64()),
            pa.array([len({p[0] for p in known if p[1] == i}) if len(ids) < 99 else sold[i] for i in ids], pa.int64()),
            pa.array([sum(t >= AS_OF - timedelta(days=7) for t in times.get(i, [])) for i in ids], pa.int64()),
            pa.array([min(times[i]) if i in times else None for i in ids], schemas.TIME),
            pa.array([max(times[i]) if i in times else None for i in ids], schemas.TIME),
        ],
        schema=schemas.catalogue(item_type),
    )
    storage.write_parquet(catalogue, str(run / "prepared/catalogue.parquet"))
    by_user: dict[Any, list[Purchase]] = {u: [] for u in sorted({p[0] for p in known} | set(extra_users))}
    for p in sorted(known, key=lambda p: (p[2], p[1])):
        by_user[p[0]].append(p)
    histories = pa.table(
        [
            pa.array(list(by_user), user_type),
            pa.array([[p[1] for p in ps] for ps in by_user.values()], pa.list_(item_type)),
            pa.array([[p[2] for p in ps] for ps in by_user.values()], pa.list_(schemas.TIME)),
            pa.array([[1.0 for _ in ps] for ps in by_user.values()], pa.list_(pa.float32())),
            pa.array([None] * len(by_user), pa.string()),
        ],
        schema=schemas.histories(user_type, item_type),
    )
    settings.setdefault("recommend", {}).update(bought=bought)
    settings.setdefault("run", {}).update(parts=parts)
    own_settings = Settings.model_validate({"purchases": {"path": "x"}, **settings})
    rows = {item: n for n, item in enumerate(ids)}
    users, lists, short = {}, [], []
    for user, ps in by_user.items():
        v = matrix[[rows[p[1]] for p in ps]].sum(axis=0) if ps else np.zeros(matrix.shape[1])
        users[user] = v / max(np.linalg.norm(v), 1e-9)
        scores = matrix @ users[user] if ps else np.array([sold[i] for i in ids], float)
        mine = {p[1] for p in ps} if bought == "exclude" else set()
        best = [n for n in np.lexsort((np.arange(len(ids)), -scores)) if ids[n] not in mine][: own_settings.recommend.k]
        near = [sorted({p[1] for p in ps}, key=lambda i, n=n: -float(matrix[rows[i]] @ matrix[n]))[:2] for n in best]
        source = "model" if ps else "popularity"
        times = Counter(p[1] for p in ps)
        lists += [(user, r + 1, ids[n], scores[n], source, times[ids[n]], near[r]) for r, n in enumerate(best)]
        if len(best) < own_settings.recommend.k:
            short.append((user, own_settings.recommend.k, len(best), "bought"))

    def by_part(table: pa.Table, folder: str, schema: pa.Schema) -> None:
        pieces = split_by_partition(table, "user_id", parts)
        for part in range(parts):
            piece = pieces.get(part, table.schema.empty_table()).combine_chunks()
            storage.write_parquet(piece.cast(schema), str(run / folder / storage.part_name(part, parts)))

    def columns(rows: Sequence[Sequence[Any]], schema: pa.Schema) -> pa.Table:
        values = zip(*rows, strict=True) if rows else [[] for _ in schema]
        return pa.table([pa.array(list(v), f.type) for v, f in zip(values, schema, strict=True)], schema=schema)

    events = schemas.events(user_type, item_type)
    for name, chosen in (("events", known), ("heldout", later)):
        pieces = sorted(chosen, key=lambda p: (p[0], p[2], p[1]))
        by_part(columns([(*p, 1.0, 1.0, None) for p in pieces], events), f"prepared/{name}", events)
    by_part(histories, "prepared/histories", histories.schema)
    dim = matrix.shape[1]
    schema = schemas.with_encoder(schemas.user_embeddings(user_type, dim), ENCODER)
    by_part(columns([(u, v.astype(np.float32)) for u, v in users.items()], schema), "embeddings/users", schema)
    schema = schemas.with_encoder(schemas.item_embeddings(item_type, dim), ENCODER)
    table = columns([(i, v, v) for i, v in zip(ids, matrix, strict=True)], schema)
    storage.write_parquet(table, str(run / "embeddings/items" / storage.part_name(0, 1)))
    schema = schemas.with_encoder(schemas.recommendations(user_type, item_type), ENCODER)
    by_part(columns(lists, schema), "recommendations/recommendations/date=2024-06-01", schema)
    schema = schemas.with_encoder(schemas.short_lists(user_type), ENCODER)
    by_part(columns(short, schema), "recommendations/short_lists", schema)
    span = [p[2] for p in known]
    statistics = {
        "as_of": AS_OF.isoformat(),
        "sources": {
            "purchases": {
                "files": 1,
                "rows": len(purchases) + sum((rejected or {}).values()),
                "accepted": len(purchases),
                "duplicates": 0,
                "rejected": rejected or {},
            }
        },
        "events": len(known),
        "heldout_events": len(later),
        "users": len(by_user),
        "users_without_history": sum(not ps for ps in by_user.values()),
        "items": len(ids),
        "items_without_sales": sum(not sold[i] for i in ids),
        "first_sale": min(span).isoformat() if span else None,
        "last_sale": max(span).isoformat() if span else None,
    }
    storage.write_json(statistics, str(run / "prepared/statistics.json"))
    signature = {"encoder": ENCODER, "dim": dim, "validation": {"recall@20": 0.25, "epoch": 2}}
    storage.write_json(signature, str(run / "model/signature.json"))
    epochs = [{"epoch": e, "loss": 3 / e, "validation_recall@20": 0.3 - 0.1 / e, "seconds": 1.0} for e in (1, 2)]
    storage.write_json(
        training or {"epochs": epochs, "best_epoch": 2, "stopped": "epochs"}, str(run / "model/training.json")
    )
    counts = {"encoder": ENCODER, "dim": dim, "blocks": [taste(dim)], "items": len(ids), "users": len(users)}
    storage.write_json(
        counts | {"users_without_vector": 0, "items_without_vector": 0}, str(run / "embeddings/vectors.json")
    )
    out = run / ".report-attempt"
    out.mkdir(parents=True)
    folders = {"prepare": "prepared", "train": "model", "embed": "embeddings", "recommend": "recommendations"}
    return Job(
        settings=own_settings,
        as_of=AS_OF,
        out=str(out),
        folders={stage: str(run / name) for stage, name in folders.items()},
    )


def checkerboard(n: int = 24) -> tuple[list[Purchase], dict[Any, np.ndarray]]:
    """Even users buy even items, odd users odd ones; each keeps one item of its kind for after the date."""
    purchases: list[Purchase] = []
    for u in range(n):
        for i in range(u % 2, n, 2):
            after = i // 2 == u // 2
            purchases.append((f"user {u}", i, AS_OF + timedelta(days=3 if after else -3, minutes=i)))
    return purchases, {i: np.eye(2)[i % 2] for i in range(n)}


def metrics_of(job: Job) -> dict[str, Any]:
    return dict(json.loads(Path(job.out, "metrics.json").read_text()))

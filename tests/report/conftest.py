"""A run of four items and twenty users, with all files that its page shows."""

from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from topkin.artifacts import schemas, storage
from topkin.artifacts.embeddings import vector_column
from topkin.encoding.blocks import Block
from topkin.evaluation.summary import nothing_held_out
from topkin.report.wording import METRIC_NAMES

AS_OF = datetime(2024, 5, 1)
MODELS = ("model", "popularity", "item_knn")
EPOCHS = [{"epoch": e, "loss": 3 / e, "validation_ndcg@20": 0.1 * e} for e in (1, 2, 3)]
TRAINING = {"epochs": EPOCHS, "refit": EPOCHS[:2], "best_epoch": 2, "stopped": "patience"}


@pytest.fixture
def folders(small_run: Any) -> dict[str, str]:
    """Those of the small run, with the tables and files beside the lists that a report reads."""
    folders = {stage: small_run.folder(stage) for stage in ("prepare", "recommend", "similar")}
    folders |= {stage: storage.join(small_run.path, stage) for stage in ("train", "embed")}
    catalogue = storage.read_parquet(storage.join(folders["prepare"], "catalogue.parquet"))
    histories = storage.read_parts(storage.join(folders["prepare"], "histories"))
    user, item = histories.schema.field("user_id").type, catalogue.schema.field("item_id").type
    schema = schemas.events(user, item)
    ones = pa.array([1.0, 1.0], pa.float32())
    for name, times in (("events", (3, 4)), ("heldout", (5, 6))):
        for part in range(3):
            users = storage.read_parquet(
                storage.join(folders["prepare"], "histories", storage.part_name(part, 3)), ["user_id"]
            )["user_id"]
            columns = [
                pa.concat_arrays([users.combine_chunks()[:1]] * 2),
                catalogue["item_id"].combine_chunks()[1:3],
                pa.array([datetime(2024, month, 2) for month in times], schemas.TIME),
                *(ones, ones, pa.nulls(2, pa.string())),
            ]
            path = storage.join(folders["prepare"], name, storage.part_name(part, 3))
            storage.write_parquet(pa.table(columns, schema=schema), path)
    vectors = np.array([[1, 0], [0.8, 0.6], [0, 1], [0.6, 0.8]], np.float32)
    table = [catalogue["item_id"], vector_column(vectors), vector_column(vectors)]
    storage.write_parquet(
        pa.table(table, schema=schemas.item_embeddings(item, 2)),
        storage.join(folders["embed"], "items", storage.part_name(0, 1)),
    )
    block = Block(name="svd", dim=2, weight=1.0, inverse_popularity=0.0, half_life_days=None, spread=(1.0, 1.0))
    source = {"rows": 70, "accepted": 60, "duplicates": 3, "rejected": {"no <price>": 7}}
    statistics = {
        "sources": {"purchases": source, "items": None},
        **{"events": 54, "heldout_events": 6, "users": 20, "items": 4, "items_without_sales": 1},
        **{"first_sale": "2024-03-02T00:00:00", "last_sale": "2024-04-29T00:00:00"},
    }
    for stage, name, content in (
        ("prepare", "statistics.json", statistics),
        ("train", "signature.json", {"encoder": "e" * 64, "dim": 2}),
        ("train", "training.json", TRAINING),
        ("embed", "vectors.json", {"blocks": [block.to_json()]}),
    ):
        storage.write_json(content, storage.join(folders[stage], name))
    return folders


@pytest.fixture
def measured() -> dict[str, Any]:
    """``metrics.json`` of a run whose model is above both baselines on novel items."""
    metrics = nothing_held_out(AS_OF, (5, 10), "exclude", "")
    names = [f"{m}@{k}" for k in (5, 10) for m in METRIC_NAMES if m != "coverage"]
    values = {"model": 0.3, "popularity": 0.1, "item_knn": 0.2}
    for protocol in ("all", "novel"):
        metrics[protocol] = {m: dict.fromkeys(names, v) for m, v in values.items()}
        metrics["coverage"][protocol] = {m: {"coverage@5": 0.5, "coverage@10": 1.0} for m in MODELS}
        apart = {m: values["model"] - values[m] for m in MODELS[1:]}
        metrics["differences"][protocol] = {m: {n: [d - 0.05, d, d + 0.05] for n in names} for m, d in apart.items()}
        metrics["p"][protocol] = {m: dict.fromkeys(names, 0.01) for m in MODELS[1:]}
        intervals = {m: {n: [v - 0.01, v, v + 0.01] for n in names} for m, v in values.items()}
        metrics["intervals"][protocol] = intervals
    metrics |= {"models": list(MODELS), "left_out": {"ials": "the library implicit is not installed"}}
    metrics["heldout"] |= {"users": 3, "pairs": 6, "novel_pairs": 4, "from": "2024-05-02", "to": "2024-06-02"}
    metrics["heldout"] |= {"events_of_new_users": 1, "users_without_vector": 1}
    metrics["beats"] = dict.fromkeys(MODELS[1:], True)
    metrics["verdict"] |= {"good": True, "reason": None}
    metrics["published"] |= {"users": 3, "metrics": dict.fromkeys(names, 0.25), "coverage": {"coverage@5": 1.0}}
    metrics["published"]["coverage"]["coverage@10"] = 1.0
    return metrics | {"validation": {"ndcg@20": 0.31}}

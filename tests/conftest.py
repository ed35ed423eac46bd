"""What the tests share: a home of their own, and the real data where it is."""

import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

if TYPE_CHECKING:
    from benchmarks.jobs._object_server import ObjectServer

# No clock decides a test: a busy machine is slow, not wrong. A failure prints what repeats it. Where CI asks, the
# examples are the same each time: a change is judged by what it changes; at home they are drawn anew.
hypothesis_settings.register_profile(
    "topkin",
    deadline=None,
    derandomize=bool(os.environ.get("CI")),
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
hypothesis_settings.load_profile("topkin")

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session", autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Beam and Keras keep caches in HOME: never in the user's."""
    os.environ["HOME"] = str(tmp_path_factory.mktemp("home"))
    os.environ["KERAS_HOME"] = os.environ["HOME"]


@pytest.fixture(scope="session")
def online_retail() -> Path:
    """The folder of the real purchases; the test is skipped where it is not there."""
    folder = SHARED / "online_retail"
    if not (folder / "purchases.parquet").exists():
        pytest.skip(f"needs the real purchases in {folder}")
    return folder


@pytest.fixture(scope="session")
def object_server() -> "Iterator[ObjectServer]":
    """An S3 server on this machine, over HTTP, that logs its requests."""
    pytest.importorskip("moto")
    pytest.importorskip("obstore")
    from benchmarks.jobs._object_server import object_server

    with object_server() as server:
        yield server


@pytest.fixture
def bucket(object_server: "ObjectServer", monkeypatch: pytest.MonkeyPatch) -> str:
    """The URI of a new bucket, for this process and those that it starts."""
    for name, value in object_server.environment.items():
        monkeypatch.setenv(name, value)
    return object_server.make_bucket()


TITLES = {"a1": "RED PAPER LANTERN", "a2": "BLUE PAPER LANTERN", "b1": "Garden spade [large]", "b2": None}


@pytest.fixture(params=["string", "int64", "binary"])
def small_run(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """A published run of four items and twenty users, its tables written by hand; ids of each type.

    User n bought item n % 3, then item 0; gets the two others, and its neighbours bought item 3.
    """
    from topkin.artifacts import runs, schemas, storage
    from topkin.artifacts.partition import split_by_partition

    kind = {"string": pa.string(), "int64": pa.int64(), "binary": pa.binary()}[request.param]
    make = {"string": str, "int64": lambda t: int(t, 16), "binary": str.encode}[request.param]
    items, users = [make(i) for i in TITLES], [make(f"{n + 100}") for n in range(20)]
    as_of, parts, root = datetime(2024, 5, 1), 3, str(tmp_path / "out")
    run = runs.Run(root, "r1", as_of)
    tables: dict[str, tuple[str, str, pa.Schema, list[dict[str, Any]]]] = {
        "histories": ("prepared", "user_id", schemas.histories(kind, kind), [
            {"user_id": u, "items": [items[n % 3], items[0]], "weights": [1.0, 2.0], "segment": "France",
             "times": [datetime(2024, 4, 1 + n), datetime(2024, 4, 29)]} for n, u in enumerate(users)]),
        "recommendations/date=2024-05-01": ("recommendations", "user_id", schemas.recommendations(kind, kind), [
            {"user_id": u, "rank": r + 1, "item_id": items[(n + r + 1) % 3], "score": 0.9 - r / 10, "source": "model",
             "times_bought": 3 * (1 - r), "because": [items[0]]} for n, u in enumerate(users) for r in range(2)]),
        "short_lists": ("recommendations", "user_id", schemas.short_lists(kind), [
            {"user_id": users[0], "wanted": 20, "got": 2, "reason": "nothing else is allowed"}]),
        "similar_items": ("similar", "item_id", schemas.similar_items(kind), [
            {"item_id": items[0], "rank": r, "neighbour_id": items[r], "score": 1 - r / 4} for r in (1, 2)]),
        "similar_users": ("similar", "user_id", schemas.similar_users(kind), [
            {"user_id": users[0], "rank": 1, "neighbour_id": users[3], "score": 0.5}]),
        "neighbours_bought": ("similar", "user_id", schemas.neighbours_bought(kind, kind), [
            {"user_id": users[0], "rank": 1, "item_id": items[3], "support": 7, "score": 2.0}]),
    }  # fmt: skip
    for name, (folder, key, schema, rows) in tables.items():
        split_rows = split_by_partition(pa.Table.from_pylist(rows, schema), key, parts)
        for part in range(parts):
            path = storage.join(run.path, folder, name, storage.part_name(part, parts))
            storage.write_parquet(split_rows.get(part, schema.empty_table()), path, row_group_rows=2)
    catalogue = [
        {"item_id": i, "title": t, "category": "home", "price": 2.5, "available": n != 1, "events": 10 * n, "users": n,
         "recent": 1, "first_sale": None, "last_sale": datetime(2024, 4, 29)}
        for n, (i, t) in enumerate(zip(items, TITLES.values(), strict=True))
    ]  # fmt: skip
    prepared = storage.join(run.path, "prepared")
    storage.write_parquet(
        pa.Table.from_pylist(catalogue, schemas.catalogue(kind)), storage.join(prepared, "catalogue.parquet")
    )
    storage.write_json({"model": "item_knn"}, storage.join(run.path, "recommendations", "lists.json"))
    words = pa.table({"value": ["PAPER", "LANTERN", "RED", "BLUE", "Garden", "spade"], "count": [2, 2, 1, 1, 1, 1]})
    storage.write_parquet(words, storage.join(prepared, "vocabularies", "words.parquet"))
    for stage, folder in {"prepare": "prepared", "recommend": "recommendations", "similar": "similar"}.items():
        entry = {"key": stage, "folder": f"runs/r1/{folder}"}
        run = runs.record_stage(run, stage, entry, {})
    runs.publish_run(run)
    return run

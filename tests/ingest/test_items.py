"""Items for an encoder: what is held to the contract, cleaned, kept once, and counted."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from topkin.config.items_run import ItemsRunSettings
from topkin.errors import ConfigError
from topkin.ingest.files import ArrowFiles, batches
from topkin.ingest.items import (
    Feed,
    feeds_schema,
    items_statistics,
    kept_type,
    labelled_catalogue,
    merge_catalogues,
    prepare_items_part,
    row_hashes,
)
from topkin.ingest.judging.items import ItemsLook, look_at_items, rejected_items_over_limits
from topkin.ingest.prepare import count_rejects, merge_counts

CLOCK = datetime(2026, 1, 1)
FEEDS = [Feed("image", "photo", is_path=True), Feed("dear", "ln(cost + 1)")]


def settings(folder: Path, **sections: Any) -> ItemsRunSettings:
    items = {"path": str(folder / "items.parquet"), "item_id": "sku", "title": "name", "label": "kind"}
    whole = {"items": {**items, **sections.pop("items", {})}, "encoder": {"path": "x.keras"}, **sections}
    return ItemsRunSettings.model_validate(whole)


def look(given: ItemsRunSettings, feeds: Sequence[Feed] = tuple(FEEDS)) -> ItemsLook:
    return look_at_items(given, lambda schema: feeds, CLOCK, lambda path: ArrowFiles())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five rows: one listed twice, one without an id; queries of two."""
    items = pa.table(
        {
            "sku": ["b", "a", "b", None, "c"],
            "photo": ["one.png", "/two.png", "three.png", "x", "s3://four.png"],
            "cost": [1.0, 2.0, 3.0, 4.0, 5.0],
            "name": ["B &amp; Co", "A", "again", "x", ""],
            "kind": pa.array([1, 2, 1, 1, None], pa.int64()),
            "long": [b"1", b"2", b"3", b"4", b"5"],
        }
    )
    pq.write_table(items, tmp_path / "items.parquet")
    pq.write_table(items.slice(0, 2), tmp_path / "queries.parquet")
    return tmp_path


def rows_of(seen: ItemsLook, name: str) -> pa.Table:
    inspection = seen.inspections[name]
    return pa.concat_tables(
        t for f in inspection.files for t in batches(name, f, ArrowFiles(), inspection.columns, rows=100)
    )


def test_rows_become_what_feeds_the_encoder_and_the_catalogue(folder: Path) -> None:
    seen = look(settings(folder, queries={"path": str(folder / "queries.parquet")}))
    assert not seen.findings
    assert seen.plan is not None
    assert seen.judged["items"].rejected == {"sku is null": 1, "item listed twice": 1}
    cleaned = seen.plan.clean("items", rows_of(seen, "items"))
    part = prepare_items_part(cleaned.accepted, "items", seen.plan)
    assert part.feeds.schema == feeds_schema(seen.plan, "items")
    assert part.feeds.column_names == ["item_id", "label", "image", "dear"]
    assert part.feeds["item_id"].to_pylist() == ["a", "b", "c"]
    assert part.feeds["label"].to_pylist() == ["2", "1", None]
    assert part.feeds["image"].to_pylist() == ["/two.png", f"{folder}/one.png", "s3://four.png"]
    np.testing.assert_allclose(part.feeds["dear"], np.log([3.0, 2.0, 6.0]))
    assert part.catalogue.schema == labelled_catalogue(pa.string())
    assert part.catalogue["title"].to_pylist() == ["A", "B & Co", None]
    assert part.catalogue["events"].to_pylist() == [0, 0, 0]
    named = look(settings(folder, items={"price": "cost"}), [Feed("title", "name"), Feed("price", "ln(cost + 1)")])
    assert named.plan is not None
    part = prepare_items_part(named.plan.clean("items", rows_of(named, "items")).accepted, "items", named.plan)
    np.testing.assert_allclose(part.feeds["price"], np.log([3.0, 2.0, 6.0]))  # an input of a catalogue column's name
    assert part.feeds["title"].to_pylist() == ["A", "B &amp; Co", ""]
    assert part.catalogue["price"].to_pylist() == [2, 1, 5]
    halves = [part.catalogue.slice(1), part.catalogue.slice(0, 1)]
    assert merge_catalogues(halves).equals(part.catalogue.combine_chunks())
    rejects = pa.concat_tables([cleaned.rejects, part.rejects])
    assert sorted(rejects["row"].to_pylist()) == [2, 3]
    assert not any("photo" in record and "long" in record for record in rejects["record"].to_pylist())
    counts = merge_counts([part.counts, count_rejects(rejects)])
    queries = prepare_items_part(seen.plan.clean("queries", rows_of(seen, "queries")).accepted, "queries", seen.plan)
    summary = items_statistics(
        merge_counts([counts, queries.counts]), {"items": (1, 5), "queries": (1, 2)}, {"items": 2}, seen.plan
    )
    assert (summary["items"], summary["queries"], summary["labels"]) == (3, 2, 2)
    assert summary["sources"]["items"]["rejected"] == {"item listed twice": 1, "sku is null": 1}


def test_the_latest_row_or_the_last_counts(folder: Path) -> None:
    for keys, cost in (({"duplicates": "last"}, 3.0), ({"latest_by": "cost"}, 3.0), ({}, 1.0)):
        seen = look(settings(folder, items=keys), [Feed("cost", "cost")])
        assert seen.plan is not None
        part = prepare_items_part(seen.plan.clean("items", rows_of(seen, "items")).accepted, "items", seen.plan)
        assert part.feeds["cost"].to_pylist()[1] == cost


def test_a_limit_of_rejects_is_held(folder: Path) -> None:
    given = settings(folder, items={"rules": {"cheap": "cost < 2"}})
    seen = look(given)
    assert [str(fault)[:20] for fault in rejected_items_over_limits(given, seen)] == ["items: at most 50.0 "]
    assert not rejected_items_over_limits(settings(folder), look(settings(folder)))


@pytest.mark.parametrize(
    ("items", "feeds", "message"),
    [
        ({"title": "nam"}, FEEDS, "has no column 'nam' (items.title), did you mean 'name'"),
        ({}, [Feed("label", "kind")], "must have another name than item_id and label, got 'label'"),
        ({}, [Feed("image", "foto")], "has no column 'foto' (encoder.inputs.image), did you mean 'photo'"),
        ({}, [Feed("image", "ln(phot)")], "phot"),
        ({"label": "photo"}, [Feed("x", "label_of(kind)")], "label_of"),
    ],
)
def test_what_does_not_fit_is_found(folder: Path, items: dict[str, Any], feeds: list[Feed], message: str) -> None:
    findings = look(settings(folder, items=items), feeds).findings
    assert message in "\n".join(map(str, findings))


def test_an_encoder_that_does_not_fit_is_a_finding(folder: Path) -> None:
    def refuse(schema: pa.Schema) -> list[Feed]:
        raise ConfigError("the model has no input 'x'")

    seen = look_at_items(settings(folder), refuse, CLOCK, lambda path: ArrowFiles())
    assert [str(f) for f in seen.findings] == ["the model has no input 'x'"]


def test_queries_feed_the_encoder_with_the_types_of_the_items(folder: Path) -> None:
    queries = pq.read_table(folder / "queries.parquet")
    given = settings(folder, queries={"path": str(folder / "queries.parquet")})
    wide = queries.set_column(5, "long", queries["long"].cast(pa.large_binary()))
    pq.write_table(wide, folder / "queries.parquet")
    assert not look(given, [Feed("long", "long")]).findings
    pq.write_table(queries.set_column(5, "long", pa.array([1, 2])), folder / "queries.parquet")
    (finding,) = look(given, [Feed("long", "long")]).findings
    assert "queries.path: what feeds the encoder's input 'long' must be binary, as of the items, got int64" in str(
        finding
    )


@pytest.mark.parametrize(
    ("came", "kept"),
    [
        (pa.binary(), pa.large_binary()),
        (pa.binary_view(), pa.large_binary()),
        (pa.binary(4), pa.binary(4)),
        (pa.string_view(), pa.string()),
        (pa.dictionary(pa.int32(), pa.string()), pa.string()),
        (pa.float16(), pa.float32()),
        (pa.list_(pa.float32()), pa.list_(pa.float32())),
    ],
)
def test_types_are_kept_with_room_for_all_rows(came: pa.DataType, kept: pa.DataType) -> None:
    assert kept_type(came) == kept


def test_rows_are_told_apart_by_every_value_nested_ones_too() -> None:
    rows = pa.table(
        {
            "photo": pa.array([b"a", b"b", b"a", None, b"a"], pa.large_binary()),
            "of": pa.array([[1.0, 2.0], [1.0, 2.0], [1.0, 2.5], [1.0, 2.0], [1.0, 2.0]], pa.list_(pa.float32())),
            "select": ["x", "x", "x", "x", "x"],
        }
    )
    hashes = row_hashes(rows)
    assert hashes.dtype == np.uint64
    assert hashes[0] == hashes[4]
    assert len(set(hashes.tolist())) == 4
    assert (row_hashes(rows.take(pa.array([3, 1]))) == hashes[[3, 1]]).all()
    assert len(row_hashes(rows.slice(0, 0))) == 0

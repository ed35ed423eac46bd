"""Vectors that items bring: the column's contract, what is rejected, and what arrives in the catalogue."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from topkin.artifacts import schemas
from topkin.config.sections import Settings
from topkin.pipelines.engine.job import Job
from topkin.pipelines.prepare import STAGE, check_inputs
from topkin.planning.estimate import InputCounts

AS_OF = datetime(2024, 6, 1)
DAY = datetime(2024, 5, 1)
IDS = ["a", "b", "c", "d", "e", "f"]
NAN, INF = float("nan"), float("inf")
ROWS: list[list[float | None] | None] = [[1, 2], None, [3.5, -1], [NAN, 0], [1, None], [1, INF]]
LISTS = [*ROWS[:3], [1, 2, 3], [], [5, 6]]


def settings(folder: Path, *items: pa.Array, **changes: Any) -> Settings:
    """Two purchases and a file of items for each array of vectors."""
    pq.write_table(pa.table({"user": ["u", "u"], "item": ["a", "sold"], "time": [DAY, DAY]}), folder / "p.parquet")
    (folder / "items").mkdir()
    for number, vectors in enumerate(items):
        ids = [i if number == 0 else f"{i}{number}" for i in IDS[: len(vectors)]]
        pq.write_table(pa.table({"item": ids, "emb": vectors}), folder / "items" / f"{number}.parquet")
    items_section = {"path": str(folder / "items"), "item_id": "item", "vector": "emb", **changes}
    purchases = {"path": str(folder / "p.parquet"), "user_id": "user", "item_id": "item", "timestamp": "time"}
    sections = {"purchases": purchases, "items": items_section, "prepare": {"max_reject_share": 1}}
    return Settings.model_validate({"run": {"parts": 2}, **sections})


def prepared(asked: Settings, folder: Path) -> tuple[pa.Table, list[dict[str, Any]]]:
    out = folder / "out"
    STAGE.execute(Job(settings=asked, as_of=AS_OF, out=str(out), beam=()))
    rejects = pa.concat_tables([pq.read_table(f) for f in sorted((out / "rejects").glob("*.parquet"))])
    return pq.read_table(out / "catalogue.parquet"), rejects.to_pylist()


@pytest.mark.parametrize("kind", [pa.list_(pa.float32()), pa.list_(pa.float64()), pa.large_list(pa.float32())])
def test_vectors_arrive_and_bad_ones_are_rejected_with_their_reason(tmp_path: Path, kind: pa.DataType) -> None:
    catalogue, rejects = prepared(settings(tmp_path, pa.array(ROWS, kind)), tmp_path)
    assert catalogue.schema.equals(schemas.catalogue(pa.string(), 2))
    assert dict(zip(*(catalogue[c].to_pylist() for c in ("item_id", "vector")), strict=True)) == {
        "a": [1, 2],
        "b": [0, 0],
        "c": [3.5, -1],
        "sold": [0, 0],
    }
    assert [r["reason"] for r in rejects] == ["emb has a number that is null or not finite"] * 3
    records = [json.loads(r["record"], parse_constant=lambda c: pytest.fail(f"{c} is not JSON")) for r in rejects]
    assert [r["emb"] for r in records] == [["nan", 0], [1, None], [1, "inf"]]


def test_a_vector_of_another_length_than_the_first_is_rejected(tmp_path: Path) -> None:
    catalogue, rejects = prepared(settings(tmp_path, pa.array(LISTS, pa.list_(pa.float32()))), tmp_path)
    assert catalogue["item_id"].to_pylist() == ["a", "b", "c", "f", "sold"]
    assert catalogue["vector"][3].as_py() == [5, 6]
    assert [r["reason"] for r in rejects] == ["emb has not 2 numbers"] * 2
    assert InputCounts.of_prepared(str(tmp_path / "out")).vector_dim == 2


def test_an_item_listed_twice_keeps_its_first_vector(tmp_path: Path) -> None:
    asked = settings(tmp_path, pa.array([[1.0, 2.0], [3.0, 4.0]]), normalise={"item": "'a'"})
    catalogue, rejects = prepared(asked, tmp_path)
    assert catalogue["vector"].to_pylist() == [[1, 2], [0, 0]]
    assert [(r["reason"], json.loads(r["record"])) for r in rejects] == [
        ("item listed twice", {"item": "a", "emb": [3.0, 4.0]})
    ]


def test_an_expression_may_make_the_vector(tmp_path: Path) -> None:
    text = pa.array(["1 2", "3 4"])
    rules = {"emb": "CAST(string_split(emb, ' ') AS FLOAT[])"}
    catalogue, _ = prepared(settings(tmp_path, text, normalise=rules, rules={"any": "emb[1] < 3"}), tmp_path)
    assert catalogue["vector"].to_pylist() == [[1, 2], [0, 0]]


def test_a_vector_of_fixed_size_is_read_as_one_of_any_size(tmp_path: Path) -> None:
    catalogue, rejects = prepared(settings(tmp_path, pa.array([[1, 2], [NAN, 1]], pa.list_(pa.float32(), 2))), tmp_path)
    assert catalogue["vector"].to_pylist() == [[1, 2], [0, 0]]
    assert [json.loads(r["record"])["emb"] for r in rejects] == [["nan", 1]]


def test_a_null_where_the_size_is_fixed_is_named_with_its_cure(tmp_path: Path) -> None:
    asked = settings(tmp_path, pa.array([[1, 2], None], pa.list_(pa.float32(), 2)))
    (findings,) = check_inputs(asked, AS_OF)
    assert "has a null in a list column of fixed size near row 0" in str(findings)
    assert "write lists of any size, or zeros in place of the null" in str(findings)


def test_without_the_key_the_catalogue_has_no_vectors(tmp_path: Path) -> None:
    catalogue, rejects = prepared(settings(tmp_path, pa.array(ROWS), vector=None), tmp_path)
    assert catalogue.schema.equals(schemas.catalogue(pa.string()))
    assert rejects == []


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            [pa.array(["x"])],
            "column 'emb' (items.vector) must be a list of floats, got string: name a column of lists, or leave vector "
            "out, or set items.normalise.emb to an SQL expression that gives such values",
        ),
        ([pa.array([[1, 2]], pa.list_(pa.int64()))], "must be a list of floats, got list<element: int64>"),
        (
            [pa.array([[1, 2]], pa.list_(pa.float32(), 2)), pa.array([[1, 2, 3]], pa.list_(pa.float32(), 3))],
            "column 'emb' (items.vector) is fixed_size_list<item: float>[3], but fixed_size_list<item: float>[2]",
        ),
        (
            [pa.array([None, []], pa.list_(pa.float32()))],
            "column 'emb' (items.vector) must hold a vector in some row, got none: write the vectors, or drop "
            "items.vector",
        ),
    ],
)
def test_a_column_that_holds_no_vectors_of_one_length_is_refused(
    tmp_path: Path, files: list[pa.Array], message: str
) -> None:
    findings = check_inputs(settings(tmp_path, *files), AS_OF)
    assert len(findings) == 1
    assert message in str(findings[0])


def test_half_floats_are_read(tmp_path: Path) -> None:
    halves = pa.FixedSizeListArray.from_arrays(pa.array(np.array([1, 0.5, 2, 0.25], np.float16)), 2)
    catalogue, _ = prepared(settings(tmp_path, halves), tmp_path)
    assert catalogue["vector"].to_pylist() == [[1, 0.5], [2, 0.25], [0, 0]]

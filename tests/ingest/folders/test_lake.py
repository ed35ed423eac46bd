"""Tables of Delta Lake, Iceberg and Hudi: read by their log or refused by name, never by their dead files."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from topkin.errors import InputError
from topkin.ingest.contract import InputSource, inspect
from topkin.ingest.files import ArrowFiles, Listing, batches, find

SCHEMA = {"user_id": "long", "item_id": "long", "day": "date", "note": "string"}
MAPPING, PHYSICAL = {"delta.columnMapping.id": 1}, "delta.columnMapping.physicalName"
VECTOR = {"storageType": "i", "pathOrInlineDv": "^Bg9^0rr910000000000iXQKl0rr91000f55c8Xg0@@D72lkbi5=-{L",
          "sizeInBytes": 44, "cardinality": 6}  # fmt: skip
VECTORS = {"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": ["deletionVectors"],
           "writerFeatures": ["deletionVectors"]}  # fmt: skip
"""The example of the format's specification: six rows are deleted."""


def delta_table(
    folder: Path,
    live: Mapping[str, Mapping[str, str | None]],
    dead: Sequence[str] = (),
    *,
    configuration: Mapping[str, str] | None = None,
    protocol: Mapping[str, Any] | None = None,
    vector: Mapping[str, Any] | None = None,
) -> Path:
    """A table of Delta Lake with a file for each name of ``live`` (with the values of its keys) and ``dead``."""
    keys = list(dict.fromkeys(k for values in live.values() for k in values))
    fields = [
        {"name": n, "type": t, "nullable": True, "metadata": {**MAPPING, PHYSICAL: f"col-{n}"} if configuration else {}}
        for n, t in SCHEMA.items()
    ]
    meta = {
        "id": "t",
        "format": {"provider": "parquet", "options": {}},
        "schemaString": json.dumps({"type": "struct", "fields": fields}),
        "partitionColumns": keys,
        "configuration": configuration or {},
    }
    actions: list[dict[str, Any]] = [
        {"protocol": protocol or {"minReaderVersion": 1, "minWriterVersion": 2}},
        {"metaData": meta},
    ]
    for number, name in enumerate([*live, *dead]):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({"user_id": [number], "item_id": [10 * number]}), path)
        add = {"size": path.stat().st_size, "modificationTime": 1_700_000_000_000, "dataChange": True}
        add |= {"deletionVector": vector} if vector else {}
        actions.append(
            {"add": {"path": quote(name), "partitionValues": dict(live.get(name, dict.fromkeys(keys))), **add}}
        )
    (folder / "_delta_log").mkdir()
    removals = [{"remove": {"path": quote(n), "dataChange": True, "deletionTimestamp": 0}} for n in dead]
    for version, commit in enumerate((actions, removals)):
        text = "".join(json.dumps(action) + "\n" for action in commit)
        (folder / "_delta_log" / f"{version:020d}.json").write_text(text)
    return folder


@pytest.fixture
def delta(tmp_path: Path) -> Path:
    return delta_table(tmp_path / "s", {"b.parquet": {}}, dead=["a.parquet"])


@pytest.fixture
def without_delta(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "deltalake", None)


def listed(path: Path | str) -> Listing:
    return find("purchases.path", str(path), ArrowFiles())


def refusal(path: Path | str) -> str:
    with pytest.raises(InputError) as raised:
        listed(path)
    return str(raised.value)


@pytest.mark.usefixtures("without_delta")
def test_a_delta_table_is_refused_with_the_cure(delta: Path) -> None:
    message = refusal(delta)
    assert f"purchases.path: {delta} is a table of Delta Lake, whose log says which of its files are rows" in message
    assert "pip install 'topkin[delta]'" in message
    assert f"register('t', T('{delta}'))" in message


@pytest.mark.parametrize("path", ["s/b.parquet", "s/*.parquet", "", "s/**/*.parquet", "?", "s/d=1/e=2", "s/d=1"])
def test_a_part_of_a_delta_table_or_a_folder_of_one_is_refused(delta: Path, path: str) -> None:
    (delta / "d=1" / "e=2").mkdir(parents=True)
    pq.write_table(pa.table({"user_id": [1]}), delta / "d=1" / "e=2" / "c.parquet")
    message = refusal(f"{delta.parent}/{path}")
    assert f"a table of Delta Lake, {delta}," in message
    assert "give that folder as the path" in message


def test_several_tables_are_told_by_the_first(delta: Path) -> None:
    delta_table(delta.parent / "a", {"b.parquet": {}})
    assert f"holds a table of Delta Lake, {delta.parent / 'a'}," in refusal(delta.parent)


def test_an_iceberg_table_is_refused_with_its_newest_metadata(tmp_path: Path) -> None:
    (tmp_path / "t" / "metadata").mkdir(parents=True)
    (tmp_path / "t" / "data").mkdir()
    pq.write_table(pa.table({"user_id": [1]}), tmp_path / "t" / "data" / "a.parquet")
    for version in (1, 9, 10):
        (tmp_path / "t" / "metadata" / f"v{version}.metadata.json").write_text("{}")
    message = refusal(tmp_path / "t")
    assert "is a table of Iceberg" in message
    assert "metadata/v10.metadata.json').scan().to_arrow()" in message
    for path in ("t/data", "t/data/a.parquet", "t/data/*"):
        assert f"lies in a table of Iceberg, {tmp_path / 't'}," in refusal(f"{tmp_path}/{path}")


def test_a_hudi_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t" / ".hoodie").mkdir(parents=True)
    (tmp_path / "t" / ".hoodie" / "hoodie.properties").write_text("hoodie.table.name=t")
    (tmp_path / "t" / "2024" / "01").mkdir(parents=True)
    pq.write_table(pa.table({"user_id": [1]}), tmp_path / "t" / "2024" / "01" / "a.parquet")
    for path in ("t", "t/2024/01", "t/2024/01/a.parquet", "t/2024/*/*.parquet"):
        message = refusal(f"{tmp_path}/{path}")
        assert "table of Hudi" in message
        assert f"spark.read.format(\"hudi\").load('{tmp_path}/t')" in message


def test_folders_that_only_have_such_names_are_read(tmp_path: Path) -> None:
    for name in ("metadata", "data"):
        (tmp_path / name).mkdir()
        pq.write_table(pa.table({"user_id": [1]}), tmp_path / name / "a.parquet")
    (tmp_path / "metadata" / "about.json").write_text("{}")
    assert len(listed(tmp_path).files) == 2
    assert len(listed(tmp_path / "data").files) == 1


def test_a_table_in_a_hidden_folder_is_passed_over_like_its_files(delta: Path) -> None:
    pq.write_table(pa.table({"user_id": [1]}), delta.parent / "a.parquet")
    delta.rename(delta.parent / ".old")
    listing = listed(delta.parent)
    assert ([Path(f.path).name for f in listing.files], listing.hidden) == (["a.parquet"], 4)


def test_a_delta_table_is_read_by_its_log(tmp_path: Path) -> None:
    pytest.importorskip("deltalake")
    live = {
        "day=2024-01-02/kind%2Fx/b.parquet": {"day": "2024-01-02"},
        "day=__HIVE_DEFAULT_PARTITION__/c.parquet": {"day": None},
        "moved elsewhere/d.parquet": {"day": "2024-01-03"},
    }
    folder = delta_table(tmp_path / "s", live, dead=["day=2024-01-02/a.parquet"])
    listing = listed(folder)
    assert {str(Path(f.path).relative_to(folder)) for f in listing.files} == live.keys()
    source = InputSource(
        name="purchases",
        path=str(folder),
        columns={"user_id": "user_id", "item_id": "item_id", "timestamp": "day", "segment": "note"},
    )
    inspection = inspect(source, ArrowFiles())
    assert inspection.findings == ()
    assert inspection.rows == 3
    assert str(inspection.latest) == "2024-01-03 00:00:00"
    rows = [t for f in inspection.files for t in batches("purchases", f, ArrowFiles(), inspection.columns, rows=9)]
    read = pa.concat_tables(rows)
    assert read.schema.field("day").type == pa.date32()
    assert read.schema.field("note").type == pa.string()  # declared in the log, in no file yet
    assert sorted(str(r["day"]) for r in read.to_pylist()) == ["2024-01-02", "2024-01-03", "None"]
    assert [r.path for r in listed(f"{folder}/").files] == [f.path for f in listing.files]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {
                "configuration": {"delta.columnMapping.mode": "name"},
                "protocol": {"minReaderVersion": 2, "minWriterVersion": 5},
            },
            "column mapping",
        ),
        ({"protocol": VECTORS, "vector": VECTOR}, "deletion vectors"),
        ({"protocol": {"minReaderVersion": 99, "minWriterVersion": 2}}, "that log cannot be read"),
    ],
)
def test_a_delta_table_whose_files_are_not_its_rows_is_refused(
    tmp_path: Path, changes: Mapping[str, Any], words: str
) -> None:
    pytest.importorskip("deltalake")
    assert words in refusal(delta_table(tmp_path / "s", {"a.parquet": {}}, **changes))


def test_a_file_that_the_log_names_and_is_gone_is_told(delta: Path) -> None:
    pytest.importorskip("deltalake")
    (delta / "b.parquet").unlink()
    source = InputSource(name="purchases", path=str(delta), columns={"user_id": "user_id"})
    (finding,) = inspect(source, ArrowFiles()).findings
    assert "b.parquet is not there: it was removed, or a log names it that is out of date" in str(finding)


def test_a_table_that_may_have_deletion_vectors_and_has_none_is_read(tmp_path: Path) -> None:
    pytest.importorskip("deltalake")
    assert len(listed(delta_table(tmp_path / "s", {"a.parquet": {}}, protocol=VECTORS)).files) == 1


def test_the_export_of_a_delta_table_works_as_it_is_printed(delta: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("deltalake")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "deltalake", None)
        command = refusal(delta).partition("pip install deltalake && python ")[2]
    subprocess.run(f"{sys.executable} {command}", shell=True, check=True)
    rows = pq.read_table(f"{delta}.parquet").to_pylist()
    assert rows == [{"user_id": 0, "item_id": 0, "day": None, "note": None}]

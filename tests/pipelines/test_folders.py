"""Forms of folder: what init proposes is what check accepts and prepare reads, and every row is accounted for."""

import importlib.util
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from topkin.config.load import load_settings
from topkin.config.sections import Settings
from topkin.errors import InputError
from topkin.pipelines.cli.app import main
from topkin.pipelines.cli.check import check
from topkin.pipelines.engine.job import Job
from topkin.pipelines.prepare import STAGE

AS_OF = datetime(2024, 6, 1)
USERS = [f"u{n % 7}" for n in range(60)]
TIMES = [datetime(2024, 1, 1) + timedelta(hours=9 * n) for n in range(60)]
ROWS = pa.table(
    {
        "user_id": [None if n == 5 else u for n, u in enumerate(USERS)],
        "item_id": [n % 11 for n in range(60)],
        "timestamp": pa.array(TIMES, pa.timestamp("us")),
        "country": [None if n % 9 == 0 else ("DE", "Côte d'Ivoire")[n % 2] for n in range(60)],
        "month": pa.array([t.strftime("%Y-%m") for t in TIMES]),
    }
)
TWICE = pa.concat_tables([ROWS, ROWS.slice(10, 3)])


def flat(folder: Path) -> None:
    folder.mkdir()
    for number in range(3):
        pq.write_table(TWICE.slice(21 * number, 21), folder / f"{number}.parquet")


def nested(folder: Path) -> None:
    for number in range(3):
        (folder / str(number) / "deep").mkdir(parents=True)
        pq.write_table(TWICE.slice(21 * number, 21), folder / str(number) / "deep" / "part.parquet")


def hive(folder: Path, *keys: str) -> None:
    partitioning = ds.partitioning(pa.schema([TWICE.schema.field(k) for k in keys]), flavor="hive")
    ds.write_dataset(TWICE, folder, format="parquet", partitioning=partitioning)


def with_strangers(folder: Path) -> None:
    flat(folder)
    pq.write_table(pa.table({name: pa.nulls(0) for name in ROWS.column_names}), folder / "3.parquet")
    for name in ("_SUCCESS", ".0.parquet.crc", "a.csv", "b.txt"):
        (folder / name).write_text("user_id\n")


def delta(folder: Path) -> None:
    hive(folder, "month")
    files = sorted(folder.rglob("*.parquet"))
    dead = files[0].with_name("dead.parquet")
    dead.write_bytes(files[0].read_bytes())
    kinds = {"user_id": "string", "item_id": "long", "timestamp": "timestamp", "country": "string", "month": "string"}
    fields = [{"name": n, "type": t, "nullable": True, "metadata": {}} for n, t in kinds.items()]
    meta = {
        "id": "t",
        "format": {"provider": "parquet", "options": {}},
        "schemaString": json.dumps({"type": "struct", "fields": fields}),
        "partitionColumns": ["month"],
        "configuration": {},
    }
    actions: list[dict[str, Any]] = [{"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}}, {"metaData": meta}]
    for file in (*files, dead):
        add = {"size": file.stat().st_size, "modificationTime": 0, "dataChange": True}
        keys = {"month": file.parent.name.partition("=")[2]}
        actions.append({"add": {"path": quote(str(file.relative_to(folder))), "partitionValues": keys, **add}})
    actions.append(
        {"remove": {"path": quote(str(dead.relative_to(folder))), "deletionTimestamp": 0, "dataChange": True}}
    )
    (folder / "_delta_log").mkdir()
    commits = [actions[:-1], actions[-1:]]
    for version, commit in enumerate(commits):
        text = "".join(json.dumps(action) + "\n" for action in commit)
        (folder / "_delta_log" / f"{version:020d}.json").write_text(text)


FORMS: dict[str, Callable[[Path], None]] = {
    "flat": flat,
    "nested": nested,
    "hive": lambda folder: hive(folder, "month"),
    "hive of two keys with null": lambda folder: hive(folder, "country", "month"),
    "delta": delta,
    "empty, hidden and foreign files": with_strangers,
}


@pytest.mark.parametrize("form", FORMS)
def test_init_check_and_prepare_read_a_folder_alike(
    form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, config = tmp_path / "sales", tmp_path / "topkin.toml"
    FORMS[form](folder)
    code = main(["init", str(folder), "--column", "segment=country", "-o", str(config)])
    if form == "delta" and importlib.util.find_spec("deltalake") is None:
        assert code == 3
        assert "is a table of Delta Lake" in capsys.readouterr().err
        return
    assert code == 0
    assert ("2 files that are not Parquet" in capsys.readouterr().out) == form.startswith("empty")
    settings = load_settings(config, env={})
    names = settings.purchases
    assert (names.user_id, names.item_id, names.timestamp, names.segment) == (
        "user_id",
        "item_id",
        "timestamp",
        "country",
    )
    inputs, *_, findings = check(settings, AS_OF)
    assert findings == []
    assert inputs[0].rows == len(TWICE)
    strange = form.startswith("empty")
    assert inputs[0].passed_over == (
        "passed over: 2 files that are not Parquet (a.csv, b.txt), 2 hidden" if strange else ""
    )
    statistics = STAGE.execute(Job(settings=settings, as_of=AS_OF, out=str(tmp_path / "out")))
    counts = statistics["sources"]["purchases"]
    assert counts["rows"] == len(TWICE)
    assert counts["rejected"] == {"user_id is null": 1}
    assert counts["accepted"] + counts["duplicates"] + sum(counts["rejected"].values()) == len(TWICE)
    assert counts["duplicates"] == 3
    histories = pa.concat_tables(pq.read_table(p) for p in sorted((tmp_path / "out" / "events").rglob("*.parquet")))
    expected = ROWS.filter(ROWS["user_id"].is_valid()).select(["user_id", "item_id", "timestamp", "country"])
    read = histories.select(["user_id", "item_id", "timestamp", "segment"])
    key = [(c, "ascending") for c in ("user_id", "timestamp", "item_id")]
    assert [tuple(r.values()) for r in read.sort_by(key).to_pylist()] == [
        tuple(r.values()) for r in expected.sort_by(key).to_pylist()
    ]


def test_check_tells_what_it_passed_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with_strangers(tmp_path / "sales")
    config = tmp_path / "topkin.toml"
    config.write_text(f'[purchases]\npath = "sales"\n[run]\noutput = "{tmp_path}/out"\n')
    assert main(["check", "--config", str(config), "--as-of", AS_OF.replace(tzinfo=UTC).date().isoformat()]) == 0
    printed = capsys.readouterr().out
    assert "purchases: passed over: 2 files that are not Parquet (a.csv, b.txt), 2 hidden" in printed


def test_a_column_of_folders_alone_is_proposed_and_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for n in range(40):
        folder = Path(f"sales/order_date=2024-01-{n % 20 + 1:02d}")
        folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({"user_id": [n % 6, n % 5], "item_id": [n % 7, n % 3]}), folder / f"{n}.parquet")
    assert main(["init", "sales"]) == 0
    settings = load_settings(Path("topkin.toml"), env={})
    assert settings.purchases.timestamp == "order_date"
    inputs, *_, findings = check(settings, AS_OF)
    assert findings == []
    assert {c.key: c.type for c in inputs[0].columns}["timestamp"] == "string"
    statistics = STAGE.execute(Job(settings=settings, as_of=AS_OF, out=str(tmp_path / "out")))
    counts = statistics["sources"]["purchases"]
    assert counts["accepted"] + counts["duplicates"] == 80


def test_keys_for_year_month_and_day_are_proposed_as_one_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for n in range(40):
        folder = Path(f"sales/year=2024/month={n % 3 + 1:02d}/day={n % 28 + 1:02d}")
        folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({"user_id": [n % 6, n % 5], "item_id": [n % 7, n % 3]}), folder / f"{n}.parquet")
    assert main(["init", "sales"]) == 0
    settings = load_settings(Path("topkin.toml"), env={})
    assert settings.purchases.normalise.keys() == {"timestamp"}
    assert check(settings, AS_OF)[-1] == []
    statistics = STAGE.execute(Job(settings=settings, as_of=AS_OF, out=str(tmp_path / "out")))
    assert statistics["sources"]["purchases"]["rejected"] == {}
    events = pa.concat_tables(pq.read_table(p) for p in sorted((tmp_path / "out" / "events").rglob("*.parquet")))
    assert {t.date() for t in events["timestamp"].to_pylist()} == {
        datetime(2024, n % 3 + 1, n % 28 + 1).date() for n in range(40)
    }


def test_a_missing_column_that_no_expression_makes_is_called_missing(tmp_path: Path) -> None:
    pq.write_table(ROWS.drop_columns("timestamp"), tmp_path / "a.parquet")
    settings = Settings.model_validate({"purchases": {"path": str(tmp_path)}, "run": {"output": str(tmp_path / "out")}})
    assert {c.key: c.type for c in check(settings, AS_OF)[0][0].columns}["timestamp"] == "missing"


def test_dead_files_of_a_lake_are_never_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Not even where the log is not whole, as here, without its schema."""
    flat(tmp_path / "s")
    (tmp_path / "s" / "_delta_log").mkdir()
    actions = [{"add": {"path": "0.parquet"}}, {"remove": {"path": "1.parquet"}}]
    (tmp_path / "s" / "_delta_log" / f"{0:020d}.json").write_text("\n".join(map(json.dumps, actions)))
    words = "is a table of Delta Lake, whose log says which of its files are rows"
    assert main(["init", str(tmp_path / "s"), "-o", str(tmp_path / "topkin.toml")]) == 3
    assert words in capsys.readouterr().err
    settings = Settings.model_validate({"purchases": {"path": str(tmp_path / "s")}, "run": {"output": str(tmp_path)}})
    assert words in str(check(settings, AS_OF)[-1][0])
    with pytest.raises(InputError, match=words):
        STAGE.execute(Job(settings=settings, as_of=AS_OF, out=str(tmp_path / "out")))

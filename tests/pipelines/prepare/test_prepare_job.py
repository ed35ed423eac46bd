"""The prepare job against the function that does the same in memory."""

import copyreg
import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from topkin.artifacts import storage
from topkin.artifacts.partition import split_by_partition
from topkin.config.load import load_settings
from topkin.config.sections import Settings
from topkin.errors import InputError
from topkin.ingest.files import ArrowFiles, batches
from topkin.ingest.prepare import prepare
from topkin.pipelines.cli.dry_run import of_inputs
from topkin.pipelines.engine.job import Job, run_pipeline
from topkin.pipelines.prepare import STAGE, build, inputs_of
from topkin.planning.estimate import InputCounts
from topkin.telemetry import progress

AS_OF = datetime(2011, 11, 9)
FOLDERS = ("events", "heldout", "histories", "rejects")


def purchases(n: int = 3000, seed: int = 0) -> pa.Table:
    """Purchases with every kind of dirt, some of them twice."""
    rng = np.random.default_rng(seed)

    def pick(values: Sequence[Any], odd: Any = None, share: float = 0.02) -> list[Any]:
        drawn = [values[i] for i in rng.integers(0, len(values), n)]
        return [odd if bad else v for v, bad in zip(drawn, rng.random(n) < share, strict=True)]

    times = [(datetime(2011, 9, 1) + timedelta(hours=7 * int(h))).isoformat() for h in rng.integers(0, 300, n)]
    table = pa.table(
        {
            "who": pa.array(pick([*range(2**40, 2**40 + 60)]), pa.int64()),
            "what": pick([f"item {i}" for i in range(40)]),
            "when": pick(times, "?"),
            "n": pick([1.0, 2.0, -1.0], float("nan")),
            "cost": pick([0.5, 2.5]),
            "land": pick(["UK", "FR"]),
            "note": pick(["x", "y"]),
        }
    )
    return pa.concat_tables([table, table.slice(0, n // 20)])


ITEMS = pa.table(
    {
        "id": ["ITEM 1", "ITEM 2", None, "ITEM 2", "NEW"],
        "name": ["Red lamp", "Blue lamp", "?", "Green lamp", "A red chair"],
        "kind": ["lamps", "lamps", None, "lamps", "chairs"],
    }
)
USERS = pa.table({"id": pa.array([2**40, 5, 5, None], pa.int64()), "land": ["DE", None, "DE", "DE"]})


def write(table: pa.Table, folder: Path, files: int, group: int) -> str:
    """The table over some files; the rows' numbers within them follow from the file names' order."""
    folder.mkdir(parents=True)
    size = -(-len(table) // files)
    for number in range(files):
        pq.write_table(table.slice(number * size, size), folder / f"{number}.parquet", row_group_size=group)
    return str(folder)


def settings(
    folder: Path, files: int = 1, group: int = 10_000, table: pa.Table | None = None, **changes: Any
) -> Settings:
    data = purchases() if table is None else table
    return Settings.model_validate(
        {
            "run": {"parts": 3},
            "prepare": {"max_reject_share": 1},
            "purchases": {
                "path": write(data, folder / "purchases", files, group),
                **{"user_id": "who", "item_id": "what", "timestamp": "when"},
                **{"quantity": "n", "price": "cost", "segment": "land"},
                "normalise": {"what": "upper(what)"},
                "rules": {"bought": "n > 0", "no y": "note <> 'y' OR cost IS NULL"},
                **changes,
            },
            "items": {
                "path": write(ITEMS, folder / "items", 1, 10),
                "item_id": "id",
                "title": "name",
                "category": "kind",
            },
            "users": {"path": write(USERS, folder / "users", 1, 10), "user_id": "id", "segment": "land"},
        }
    )


def run(asked: Settings, out: Path, *flags: str) -> dict[str, Any]:
    return STAGE.execute(Job(settings=asked, as_of=AS_OF, out=str(out), beam=flags))


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in storage.files(str(folder))}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Settings, Path]:
    folder = tmp_path_factory.mktemp("prepare")
    asked = settings(folder)
    run(asked, folder / "out")
    return asked, folder / "out"


def test_the_job_writes_what_the_function_makes(done: tuple[Settings, Path]) -> None:
    asked, out = done
    inputs = inputs_of(Job(settings=asked, as_of=AS_OF, out=str(out)))
    raw = {
        name: pa.concat_tables(t for f in i.files for t in batches(name, f, ArrowFiles(), i.columns, rows=500))
        for name, i in inputs.inspections.items()
    }
    tables = prepare(raw, inputs.plan)
    assert tables.statistics == storage.read_json(str(out / "statistics.json"))
    assert min(len(tables.events), len(tables.heldout), len(tables.histories), len(tables.rejects)) > 50
    names = [storage.part_name(p, 3) for p in range(3)]
    for folder in FOLDERS:
        table = getattr(tables, folder)
        parts = split_by_partition(table, "row" if folder == "rejects" else "user_id", 3)
        assert storage.files(str(out / folder)) == names
        for part, name in enumerate(names):
            rows = storage.read_parquet(str(out / folder / name))
            assert rows.equals(parts.get(part, table.slice(0, 0)).combine_chunks()), (folder, part)
            assert rows.schema == table.schema
    assert storage.read_parquet(str(out / "catalogue.parquet")).equals(tables.catalogue)
    for name, words in tables.vocabularies.items():
        assert storage.read_parquet(str(out / "vocabularies" / f"{name}.parquet")).equals(words)


def test_every_row_is_accepted_dropped_or_rejected(done: tuple[Settings, Path]) -> None:
    sources = storage.read_json(str(done[1] / "statistics.json"))["sources"]
    assert sources["purchases"]["rows"] == 3150
    assert sources["purchases"]["duplicates"] > 0
    assert set(sources["purchases"]["rejected"]) == {
        "who is null",
        "what is null",
        "when is not readable as a time",
        "n is null or not finite",
        "bought",
        "no y",
    }
    assert sources["items"] == {
        **{"files": 1, "rows": 5, "accepted": 3, "duplicates": 0},
        "rejected": {"id is null": 1, "item listed twice": 1},
    }
    assert sources["users"]["rejected"] == {"id is null": 1, "user listed twice": 1}
    for s in sources.values():
        assert s["rows"] == s["accepted"] + s["duplicates"] + sum(s["rejected"].values())


def test_rejects_say_where_the_row_stands(done: tuple[Settings, Path]) -> None:
    asked, out = done
    rejects = storage.read_parts(str(out / "rejects")).filter(pa.compute.field("source") == "purchases").to_pylist()
    rows = purchases().to_pylist()
    for reject in rejects[::10]:
        assert reject["file"] == f"{asked.purchases.path}/0.parquet"
        row, record = rows[reject["row"]], json.loads(reject["record"])
        assert (record["who"], record["what"], record["note"]) == (row["who"], row["what"], row["note"])


@pytest.mark.parametrize(
    ("files", "group", "flags"),
    [
        (7, 100, []),
        (1, 450, ["--direct_runner_bundle_repeat=2"]),
        pytest.param(
            4, 1000, ["--direct_running_mode=multi_processing", "--direct_num_workers=2"], marks=pytest.mark.slow
        ),
    ],
)
def test_how_the_rows_lie_in_files_changes_no_byte(
    done: tuple[Settings, Path], tmp_path: Path, files: int, group: int, flags: list[str]
) -> None:
    run(settings(tmp_path, files, group), tmp_path / "out", *flags)
    one, other = contents(done[1]), contents(tmp_path / "out")
    assert list(one) == list(other)
    assert [n for n in one if one[n] != other[n] and not n.startswith(("rejects/", "statistics"))] == []
    stated = [storage.read_json(str(out / "statistics.json")) for out in (done[1], tmp_path / "out")]
    assert stated[1]["sources"]["purchases"].pop("files") == files
    stated[0]["sources"]["purchases"].pop("files")
    assert stated[0] == stated[1]


def test_running_again_with_bundles_repeated_gives_the_same_bytes(done: tuple[Settings, Path], tmp_path: Path) -> None:
    run(done[0], tmp_path, "--direct_runner_bundle_repeat=2")
    assert contents(tmp_path) == contents(done[1])


@pytest.mark.parametrize(
    "flags",
    [
        ("--direct_runner_bundle_repeat=2",),
        pytest.param(("--direct_running_mode=multi_processing", "--direct_num_workers=2"), marks=pytest.mark.slow),
    ],
    ids=["repeated bundles", "processes"],
)
def test_the_engines_shuffle_gives_the_same_bytes(
    done: tuple[Settings, Path], tmp_path: Path, flags: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a table was pickled on its way")

    monkeypatch.setitem(copyreg.dispatch_table, pa.Table, refuse)
    job = Job(settings=done[0], as_of=AS_OF, out=str(tmp_path / "out"), scratch=str(tmp_path / "scratch"))
    inputs = inputs_of(job)
    run_pipeline(lambda pipeline: build(pipeline, job, inputs, by_engine=True), flags)
    assert contents(tmp_path / "out") == contents(done[1])
    assert not (tmp_path / "scratch").exists()  # no row went through a file


def few(rows: Sequence[tuple[Any, ...]]) -> pa.Table:
    names = ["who", "what", "when", "n", "cost", "land", "note"]
    return pa.Table.from_pylist([dict(zip(names, r, strict=True)) for r in rows], purchases(300).schema)


DAY = "2011-10-01"


def test_one_user_and_one_item_make_tables(tmp_path: Path) -> None:
    result = run(settings(tmp_path, table=few([(7, "a", DAY, 1.0, 1.0, "UK", "x")])), tmp_path / "out")
    assert (result["events"], result["heldout_events"], result["users"], result["items"]) == (1, 0, 3, 4)
    histories = storage.read_parts(str(tmp_path / "out/histories")).to_pylist()
    assert {r["user_id"]: r["items"] for r in histories} == {7: ["A"], 5: [], 2**40: []}
    assert {r["user_id"]: r["segment"] for r in histories} == {7: "UK", 5: None, 2**40: "DE"}


def test_all_rows_rejected_is_told_with_the_reasons(tmp_path: Path) -> None:
    rows = [
        (7, "a", DAY, -1.0, 1.0, "UK", "x"),
        (None, "a", DAY, 1.0, 1.0, "UK", "x"),
        (7, "a", DAY, 0.0, 1.0, "UK", "x"),
    ]
    with pytest.raises(InputError, match=r"all 3 rows of purchases were rejected \(bought: 2, who is null: 1\)"):
        run(settings(tmp_path, table=few(rows)), tmp_path / "out")


def test_no_purchase_before_the_as_of_date_is_told(tmp_path: Path) -> None:
    rows = [(7, "a", "2011-12-01", 1.0, 1.0, "UK", "x"), (None, "a", DAY, 1.0, 1.0, "UK", "x")]
    with pytest.raises(InputError, match=r"no purchase before the as-of date 2011-11-09T00:00:00: 1 of 2 rows"):
        run(settings(tmp_path, table=few(rows)), tmp_path / "out")


def test_baskets_are_counted_by_their_items_in_messages_and_plans_and_by_rows_in_progress(tmp_path: Path) -> None:
    later = ["2011-12-01", "2011-12-02"]
    sold = pa.table({"who": [1, 2], "what": [["a", "b", None], ["c", "d", "e"]], "when": later})
    purchases = {"path": write(sold, tmp_path / "in", 1, 10), "user_id": "who", "item_id": "what[]"}
    asked = Settings.model_validate({"run": {"parts": 3}, "purchases": {**purchases, "timestamp": "when"}})
    assert of_inputs(asked).purchases == 6
    steps: list[tuple[str, int, int | None]] = []
    with (
        progress.listen(lambda *step: steps.append(step)),
        pytest.raises(InputError, match=r"no purchase before the as-of date 2011-11-09T00:00:00: 5 of 6 rows"),
    ):
        run(asked, tmp_path / "out")
    assert [step for step in steps if step[0] == "clean purchases"] == [("clean purchases", 2, 2)]
    assert InputCounts.of_prepared(str(tmp_path / "out")).purchases == 6


def test_a_wrong_input_stops_the_job_before_it_writes(tmp_path: Path) -> None:
    asked = settings(tmp_path)
    Path(asked.purchases.path, "0.parquet").write_bytes(b"")
    with pytest.raises(InputError, match="is empty"):
        run(asked, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_real_purchases_give_the_known_counts(online_retail: Path, tmp_path: Path) -> None:
    example = Path(__file__).parents[3] / "examples" / "online_retail.toml"
    asked = load_settings(
        str(example),
        [f"purchases.path={online_retail}/purchases.parquet", f"items.path={online_retail}/items.parquet"],
    )
    result = run(asked, tmp_path)
    purchased = result["sources"]["purchases"]
    assert purchased["rows"] == 541_909
    assert purchased["accepted"] + purchased["duplicates"] == 396_337
    folders = [storage.read_parts(str(tmp_path / f), ["user_id", "item_id"]) for f in ("events", "heldout")]
    both = pa.concat_tables(folders)
    assert (len(both["user_id"].unique()), len(both["item_id"].unique())) == (4334, 3659)
    assert sum(purchased["rejected"].values()) == 541_909 - 396_337
    assert purchased["rejected"]["user_id is null"] == 135_080


def test_no_table_is_pickled_on_its_way(done: tuple[Settings, Path], tmp_path: Path, monkeypatch: Any) -> None:
    def refuse(table: pa.Table) -> Any:
        raise AssertionError("a table was pickled")

    monkeypatch.setitem(copyreg.dispatch_table, pa.Table, refuse)
    run(done[0], tmp_path / "out")


def test_rules_ask_the_items_and_users_tables_as_the_function_does(tmp_path: Path) -> None:
    asked = settings(
        tmp_path,
        files=3,
        group=200,
        rules={"lamps only": "item.category = 'lamps'", "not ours": "user.land IS DISTINCT FROM 'DE'"},
    )
    counts = run(asked, tmp_path / "out")
    source = counts["sources"]["purchases"]
    assert source["rows"] == source["accepted"] + source["duplicates"] + sum(source["rejected"].values())
    assert {"lamps only", "not ours"} <= source["rejected"].keys()
    sold = storage.read_parts(str(tmp_path / "out" / "events"), ["user_id", "item_id"])
    assert set(sold["item_id"].to_pylist()) == {"ITEM 1", "ITEM 2"}
    assert 2**40 not in sold["user_id"].to_pylist()


def test_more_rejects_than_the_limit_end_the_job_with_a_value_and_the_cure(tmp_path: Path) -> None:
    asked = settings(tmp_path, rules={})
    asked = asked.model_copy(update={"prepare": asked.prepare.model_copy(update={"max_reject_share": 0.05})})
    with pytest.raises(
        InputError, match=r"at most 5.0 % of the rows may be rejected \(prepare.max_reject_share = 0.05"
    ) as e:
        run(asked, tmp_path / "out")
    message = str(e.value)
    assert "such as " in message
    assert "/purchases/0.parquet" in message
    assert "set prepare.max_reject_share_by_reason." in message

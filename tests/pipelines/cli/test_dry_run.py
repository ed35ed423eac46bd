"""``topkin run --dry-run`` and ``--profile``: what a run would cost, and what it did cost."""

import json
import os
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from topkin.artifacts import runs, storage
from topkin.pipelines import run as nightly
from topkin.pipelines.cli.app import main
from topkin.pipelines.engine import stages
from topkin.telemetry.profiling import Usage

USERS, ITEMS, ROWS = 700, 90, 5000


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Purchases in two files and a catalogue; ids of items are made by an expression."""
    rng = np.random.default_rng(0)
    (tmp_path / "sales").mkdir()
    for part in range(2):
        table = {
            "who": np.where(np.arange(ROWS) < USERS, np.arange(ROWS), rng.integers(0, USERS, ROWS)),
            "what": [f"i{n}" for n in np.where(np.arange(ROWS) < ITEMS, np.arange(ROWS), rng.integers(0, ITEMS, ROWS))],
            "timestamp": pa.array([datetime(2024, 1, 1) + timedelta(hours=int(h)) for h in rng.integers(0, 999, ROWS)]),
        }
        pq.write_table(pa.table(table), tmp_path / "sales" / f"{part}.parquet")
    pq.write_table(pa.table({"item_id": [f"I{n}" for n in range(ITEMS + 10)]}), tmp_path / "items.parquet")
    (tmp_path / "topkin.toml").write_text(
        '[purchases]\npath = "sales"\nuser_id = "who"\nnormalise.item_id = "upper(what)"\n'
        '[items]\npath = "items.parquet"\n'
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def planned(capsys: pytest.CaptureFixture[str], *args: str, code: int = 0) -> dict[str, Any]:
    assert main(["run", "--as-of", "2024-02-01", "--dry-run", "--json", *args]) == code
    value: dict[str, Any] = json.loads(capsys.readouterr().out)
    return value


def test_a_dry_run_counts_the_inputs_and_does_nothing(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(shop.rglob("*"))
    value = planned(capsys)
    assert value["counts"]["purchases"] == 2 * ROWS
    assert (value["counts"]["users"], value["counts"]["items"]) == (USERS, ITEMS + 10)
    assert value["counts"]["input_bytes"] == sum(p.stat().st_size for p in shop.rglob("*.parquet"))
    assert [stage["stage"] for stage in value["stages"]] == list(stages.ORDER)
    assert value["fits"]
    assert value["seconds"] > 0
    assert sorted(shop.rglob("*")) == before


def test_a_dry_run_after_prepare_takes_what_was_counted(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prepare", "--as-of", "2024-02-01", "--quiet"]) == 0
    capsys.readouterr()
    summary = storage.read_json(next(str(p) for p in shop.rglob("statistics.json")))
    counts = planned(capsys)["counts"]
    assert counts["known"] == summary["events"] < counts["purchases"]


def test_a_plan_of_views_and_purchases_is_of_events(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (shop / "topkin.toml").open("a") as config:
        config.write('[events.view]\npath = "sales"\nnormalise.item_id = "upper(what)"\n')
    assert main(["run", "--dry-run"]) == 0
    assert "20,000 events, 700 users" in " ".join(capsys.readouterr().out.split())


THREE = ("--direct_running_mode=multi_processing", "--direct_num_workers=3")


def test_the_table_names_every_stage_and_the_machine(
    shop: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["run", "--dry-run", "--", *THREE]) == 0
    out = capsys.readouterr().out
    assert all(stage in out for stage in stages.ORDER)
    assert "10,000 purchases, 700 users, 100 items; 3 workers of" in out
    assert "1 (resident)" in out
    assert "nothing to do" not in out
    assert main(["run", "--dry-run", "--set", "run.parts=2", "--", *THREE]) == 0
    assert "run.parts is 2, so that 1 of 3 workers have nothing to do: set run.parts = 6" in capsys.readouterr().out


def test_more_parts_than_users_are_told_and_more_than_rows_refused_by_dry_and_real_runs(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "--dry-run", "--set", "run.parts=900"]) == 0
    note = 'run.parts is 900 for 700 users, so that most files are empty: set run.parts = "auto"'
    assert note in capsys.readouterr().out
    assert main(["run", "--dry-run"]) == 0
    assert "files are empty" not in capsys.readouterr().out
    many = ["--set", "run.parts=100000"]
    assert not planned(capsys, *many, code=2)["fits"]
    for real in (["--dry-run"], ["--as-of", "2024-02-01", "--quiet"]):
        assert main(["run", *real, *many]) == 2
        err = capsys.readouterr().err
        assert err.startswith("topkin: run.parts must be at most 10,")
        assert "rows of the inputs, got 100,000: each part is files of its own in every table" in err
        assert err.rstrip().endswith('set run.parts = "auto"')
    assert not list(shop.rglob("histories"))


def test_a_plan_that_does_not_fit_is_refused_by_dry_and_real_runs_with_the_cure(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tight = ["--set", "run.worker_memory=0.01"]
    assert not planned(capsys, *tight, code=2)["fits"]
    assert main(["run", "--as-of", "2024-02-01", "--quiet", *tight]) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("topkin: prepare needs ")
    assert "run.worker_memory is 0.01 (GB): take workers with more, and set run.worker_memory = " in printed
    assert not list(shop.rglob("histories"))
    assert main(["prepare", "--as-of", "2024-02-01", "--quiet"]) == 0
    capsys.readouterr()
    assert main(["run", "--as-of", "2024-02-01", "--quiet", *tight]) == 2  # prepare is there: its key is the same
    lines = capsys.readouterr().err.splitlines()
    assert [line.removeprefix("topkin: ").partition(" ")[0] for line in lines] == list(stages.ORDER)[1:]


def test_inputs_that_are_not_there_are_told_as_ever(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (shop / "items.parquet").unlink()
    assert main(["run", "--dry-run"]) == 3
    assert "items.path: there is no file" in capsys.readouterr().err


@pytest.fixture
def one_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that says it did ``embed``, and found ``train`` done."""

    def run_all(settings: Any, *, tell: Any, before_publishing: Any, **options: Any) -> runs.Run:
        step = {"step": "EmbedUsers/Encode/ParDo(X)", "rows": 1234, "bytes": 5_400_000, "milliseconds": 1500}
        usage = Usage(2.5, 4.25, 10_000, 2_000_000, 900_000_000, [step])
        tell(stages.Event("train", "reused"))
        tell(stages.Event("embed", "started"))
        tell(stages.Event("embed", "finished", 2.5, {}, usage))
        run = runs.Run(settings.run.output, "r1", options["as_of"])
        before_publishing(run)
        return run

    monkeypatch.setattr(nightly, "run_all", run_all)


def test_a_profile_is_written_into_the_run_and_printed(
    shop: Path, one_stage: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["run", "--profile", "--quiet"]) == 0
    out = capsys.readouterr().out
    for text in ("embed", "2.5", "4.2", "10.0 kB", "2.0 MB", "900 MB", " EmbedUsers/Encode ", "1,234", "5.4 MB"):
        assert text in out
    written = storage.read_json(str(shop / "topkin-out" / "runs" / "r1" / "profile.json"))
    assert written["machine"]["cores"] >= 1
    [stage] = written["stages"]
    assert (stage["stage"], stage["cpu_seconds"], stage["steps"][0]["milliseconds"]) == ("embed", 4.25, 1500)


def test_without_being_asked_no_profile_is_written(shop: Path, one_stage: None) -> None:
    assert main(["run", "--quiet"]) == 0
    assert not list(shop.rglob("profile.json"))


def test_a_plan_needs_neither_beam_nor_tensorflow(shop: Path) -> None:
    script = (
        "import sys; from topkin.pipelines.cli.app import main; main(['run', '--dry-run', '--json'])\n"
        "sys.exit(bool({'apache_beam', 'tensorflow', 'keras'} & set(sys.modules)))"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": str(root)}, check=False)
    assert done.returncode == 0

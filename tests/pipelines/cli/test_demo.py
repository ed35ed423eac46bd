"""The demo: a shop and its configuration are written once, every job runs as of the shop's cut, a user is shown."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from topkin.artifacts import runs, storage
from topkin.pipelines import run as nightly
from topkin.pipelines.cli import demo, show
from topkin.pipelines.cli.app import main
from topkin.synthetic.shop import Shop

SMALL = ["--users", "60", "--items", "30", "--purchases", "600"]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The calls of the nightly job, which does nothing but prepare histories."""
    seen: list[dict[str, Any]] = []

    def run_all(settings: Any, **options: Any) -> runs.Run:
        seen.append({"settings": settings, **options})
        folder = storage.join(settings.run.output, "prepared")
        ids = pa.array([100_009, 100_003, 100_005])
        items = pa.array([["a"], [], ["b", "c"]], pa.list_(pa.string()))
        storage.write_parquet(
            pa.table({"user_id": ids, "items": items}), storage.join(folder, "histories", "part.parquet")
        )
        return runs.Run(settings.run.output, "2024-12-01-x", options["as_of"], {"prepare": folder})

    monkeypatch.setattr(nightly, "run_all", run_all)
    monkeypatch.setattr(show, "show_user", lambda run, user_id: f"shown {user_id}")
    return seen


def test_the_demo_runs_every_job_on_the_shop_and_shows_its_first_buyer(
    calls: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", "--output", str(tmp_path), *SMALL]) == 0
    (call,) = calls
    shop = Shop(users=60, items=30, purchases=600)
    assert call["as_of"] == shop.as_of
    assert call["settings"].purchases.path == str(tmp_path / "shop" / "purchases")
    table = storage.read_parts(call["settings"].purchases.path)
    assert len(table) == shop.counts()["lines"]
    assert "shown 100005" in capsys.readouterr().out  # 100003 has bought nothing


def test_a_second_demo_leaves_the_data_and_the_configuration_alone(calls: list[dict[str, Any]], tmp_path: Path) -> None:
    main(["demo", "--output", str(tmp_path), *SMALL])
    times = {p: p.stat().st_mtime_ns for p in (tmp_path / "shop").rglob("*") if p.is_file()}
    config = tmp_path / "topkin.toml"
    config.write_text(config.read_text() + "[train]\nepochs = 2\n")
    main(["demo", "--output", str(tmp_path), *SMALL])
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "shop").rglob("*") if p.is_file()} == times
    assert calls[-1]["settings"].train.epochs == 2


def test_another_shop_replaces_the_data_and_the_configuration(calls: list[dict[str, Any]], tmp_path: Path) -> None:
    main(["demo", "--output", str(tmp_path), *SMALL])
    main(["demo", "--output", str(tmp_path), *SMALL, "--seed", "7"])
    assert calls[-1]["settings"].run.seed == 7
    whole = storage.read_parts(str(tmp_path / "shop" / "purchases"))
    assert whole.equals(Shop(users=60, items=30, purchases=600, seed=7).purchase_shard(0, 1))


def test_a_configuration_that_was_deleted_comes_back(calls: list[dict[str, Any]], tmp_path: Path) -> None:
    main(["demo", "--output", str(tmp_path), *SMALL])
    (tmp_path / "topkin.toml").unlink()
    assert main(["demo", "--output", str(tmp_path), *SMALL]) == 0


def test_the_first_user_is_the_smallest_id_with_a_history(tmp_path: Path) -> None:
    table = pa.table(
        {
            "user_id": pa.array([7, 3, 5]),
            "items": pa.array([["a"], [], ["b"]], pa.list_(pa.string())),
        }
    )
    storage.write_parquet(table, str(tmp_path / "histories" / "part.parquet"))
    run = runs.Run("root", "id", Shop().as_of, {"prepare": str(tmp_path)})
    assert demo.first_user(run) == 5


def test_a_flag_before_the_dashes_is_refused(calls: list[dict[str, Any]], tmp_path: Path) -> None:
    assert main(["demo", "--output", str(tmp_path), *SMALL, "stray"]) == 2
    assert not calls

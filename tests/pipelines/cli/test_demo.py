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


def _tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("theirs", ["shop/prices.csv", "topkin.toml", "topkin-out/current.json", "shop/items.parquet"])
def test_files_of_somebody_else_stop_the_demo(
    theirs: str, calls: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / theirs).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / theirs).write_text("theirs")
    (tmp_path / "notes.txt").write_text("theirs too")
    before = _tree(tmp_path)
    assert main(["demo", "--output", str(tmp_path), *SMALL]) == 2
    printed = capsys.readouterr().err
    assert str(tmp_path / theirs.partition("/")[0]) in printed
    assert "another folder by --output" in printed
    assert _tree(tmp_path) == before
    assert not calls


def test_a_folder_with_nothing_in_the_way_keeps_what_it_has(calls: list[dict[str, Any]], tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("theirs")
    assert main(["demo", "--output", str(tmp_path), *SMALL]) == 0
    assert main(["demo", "--output", str(tmp_path), *SMALL, "--seed", "7"]) == 0
    assert (tmp_path / "notes.txt").read_text() == "theirs"


def test_a_file_that_was_put_beside_the_generated_ones_stays(calls: list[dict[str, Any]], tmp_path: Path) -> None:
    main(["demo", "--output", str(tmp_path), *SMALL])
    (tmp_path / "shop" / "prices.csv").write_text("theirs")
    before = _tree(tmp_path)
    assert main(["demo", "--output", str(tmp_path), *SMALL, "--seed", "7"]) == 2
    assert _tree(tmp_path) == before


def test_a_changed_configuration_is_not_replaced_by_another_shops(
    calls: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["demo", "--output", str(tmp_path), *SMALL])
    config = tmp_path / "topkin.toml"
    config.write_text(config.read_text() + "[train]\nepochs = 2\n")
    before = _tree(tmp_path)
    assert main(["demo", "--output", str(tmp_path), *SMALL, "--seed", "7"]) == 2
    assert f"{config} was changed since topkin demo wrote it" in capsys.readouterr().err
    assert _tree(tmp_path) == before


def test_wrong_settings_are_told_before_anything_is_written(calls: list[dict[str, Any]], tmp_path: Path) -> None:
    output = tmp_path / "new"
    assert main(["demo", "--output", str(output), *SMALL, "--set", "train.epoch=1"]) == 2
    assert not output.exists()


def test_a_demo_that_was_killed_while_it_wrote_goes_on(calls: list[dict[str, Any]], tmp_path: Path) -> None:
    main(["demo", "--output", str(tmp_path), *SMALL])
    (tmp_path / "shop" / "shop.json").unlink()
    (tmp_path / "shop" / f".items.parquet.{'0' * 32}").write_text("half")
    assert main(["demo", "--output", str(tmp_path), *SMALL, "--seed", "7"]) == 0
    assert calls[-1]["settings"].run.seed == 7
    assert not list((tmp_path / "shop").glob(".items*"))

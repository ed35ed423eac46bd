"""Several cuts of a small generated shop, through every stage."""

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from topkin.artifacts import runs, storage
from topkin.config.load import load_settings
from topkin.config.sections import Settings
from topkin.errors import ConfigError
from topkin.pipelines import backtest
from topkin.pipelines.engine.stages import Event, needed
from topkin.synthetic.shop import Shop

END = datetime(2024, 5, 1)


def never() -> datetime:
    raise AssertionError("the input need not be read")


def test_cuts_are_named_or_counted() -> None:
    named = backtest.cuts_of("2024-03-01, 2024-04-01", None, None, never)
    assert named == ([datetime(2024, 3, 1), datetime(2024, 4, 1)], None)
    assert backtest.cuts_of("2", "4w", END, never) == ([END - timedelta(days=56), END - timedelta(days=28)], END)
    assert backtest.cuts_of("1", "10", None, lambda: END) == ([END - timedelta(days=10)], END)
    assert backtest.cuts_of("1", None, END, never) == ([END - timedelta(days=28)], END)
    assert backtest.days_of("36h") == timedelta(hours=36)


@pytest.mark.parametrize(
    ("cuts", "every", "message"),
    [
        ("0", "28d", "at least 1"),
        ("2024-03-01", "28d", "goes with a number of cuts"),
        ("soon", None, "--cuts must be a date"),
        ("4", "monthly", "--every must be a span"),
        ("4", "0d", "--every must be a span"),
    ],
)
def test_wrong_cuts_are_told(cuts: str, every: str | None, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        backtest.cuts_of(cuts, every, END, never)


def test_only_what_an_evaluation_needs_is_run() -> None:
    alone = {"purchases": {"path": "x"}, "evaluate": {"hindsight": []}}
    settings = Settings.model_validate(alone)
    assert needed("evaluate", settings) == ["prepare", "train", "embed", "recommend", "evaluate"]
    through = Settings.model_validate({**alone, "recommend": {"search": "index"}})
    assert needed("evaluate", through) == ["prepare", "train", "embed", "index", "recommend", "evaluate"]


@pytest.mark.slow
def test_two_cuts_are_judged_blind_to_what_came_after_and_done_once(tmp_path: Path) -> None:
    shop = Shop(users=120, items=60, purchases=3000, seed=3)
    shop.write(str(tmp_path / "shop"))
    (tmp_path / "topkin.toml").write_text(shop.config_toml("shop"))
    sets = ["train.epochs=1", "train.dim=8", "evaluate.bootstrap=20", "run.parts=2", "evaluate.k=[10]"]
    settings = load_settings(tmp_path / "topkin.toml", sets, env={})
    cuts = [shop.as_of - timedelta(days=60), shop.as_of - timedelta(days=30)]
    folder, summary = backtest.run_backtest(settings, cuts, shop.as_of)
    assert [c["as_of"] for c in summary["cuts"]] == [c.isoformat() for c in cuts]
    assert [c["days"] for c in summary["cuts"]] == [30.0, 30.0]
    for cut, result in zip(cuts, summary["cuts"], strict=True):
        assert cut.isoformat() <= result["heldout"]["from"] <= result["heldout"]["to"]
        assert result["heldout"]["to"] < (cut + timedelta(days=30)).isoformat()
        run = runs.read_run(settings.run.output, result["run_id"])
        sold = storage.read_parquet(storage.join(run.folder("prepare"), "catalogue.parquet"), ["last_sale"])
        assert max(t for t in sold["last_sale"].to_pylist() if t) < cut
    assert storage.read_json(storage.join(folder, "backtest.json")) == summary
    assert "of 2 cuts" in storage.read_bytes(storage.join(folder, "backtest.txt")).decode()
    assert runs.pointer(settings.run.output) is None  # nothing is published

    collected: list[Event] = []
    again = backtest.run_backtest(settings, cuts, shop.as_of, tell=collected.append)
    assert again == (folder, summary)
    assert {e.state for e in collected} == {"reused"}
    assert len(collected) == 10

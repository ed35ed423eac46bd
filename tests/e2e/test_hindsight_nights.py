"""Three nights of a tiny shop in a row, each with the purchases up to its date: from the second on a verdict."""

from datetime import datetime, timedelta
from html import unescape
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from topkin.artifacts import runs, storage
from topkin.pipelines.cli.app import main

FIRST, USERS, ITEMS, DAYS = datetime(2024, 6, 1), 60, 24, 30
CONFIG = """
[run]
parts = 2
[purchases]
path = "purchases.parquet"
[train]
epochs = 0
svd_dim = 8
next_item_dim = 8
[recommend]
k = 10
bought = "keep"
[similar]
users = 2
bought = 2
min_support = 2
[evaluate]
k = [5, 10]
nightly = "hindsight"
bootstrap = 50
"""


def purchases() -> pa.Table:
    """Half of the users buy each day, even ones even items and odd ones odd items."""
    rng = np.random.default_rng(7)
    rows = [
        (f"u{u:02d}", f"i{2 * int(rng.integers(ITEMS // 2)) + u % 2:02d}", day + timedelta(hours=9, minutes=u))
        for day in (FIRST + timedelta(days=d) for d in range(-DAYS, 3))
        for u in np.flatnonzero(rng.random(USERS) < 0.5).tolist()
    ]
    names = ("user_id", "item_id", "timestamp")
    return pa.table({name: list(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)})


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nights")
    (folder / "topkin.toml").write_text(CONFIG)
    return folder


def write_purchases(shop: Path, day: int) -> None:
    """What had been bought by a date."""
    date, table = FIRST + timedelta(days=day), purchases()
    known = pa.array([moment < date for moment in table["timestamp"].to_pylist()])
    pq.write_table(table.filter(known), shop / "purchases.parquet")


def night(shop: Path, day: int) -> runs.Run:
    """The run of a date."""
    date = FIRST + timedelta(days=day)
    assert main(["run", "-c", str(shop / "topkin.toml"), "--as-of", f"{date:%Y-%m-%d}"]) == 0
    run = runs.published(str(shop / "topkin-out"))
    assert run is not None
    assert run.as_of == date
    return run


@pytest.mark.slow
def test_each_night_from_the_second_on_has_a_verdict_in_its_report_and_on_the_screen(shop, capsys) -> None:
    done, collected, gathered = [], [], []
    for day in range(3):
        write_purchases(shop, day)
        done.append(night(shop, day))
        collected.append(capsys.readouterr().err)
        gathered.append(storage.read_json(storage.join(done[-1].folder("hindsight"), "hindsight.json")))
    pages = [unescape(Path(run.folder("report"), "report.html").read_text()) for run in done]
    assert gathered[0]["verdict"] is None
    assert "Not judged.</strong>" in pages[0]
    assert "hindsight needs one published night, a day or more before this one" in pages[0]
    assert 'id="hindsight"' not in pages[0]
    for n in (1, 2):
        verdict = gathered[n]["verdict"]
        assert verdict["version"] == done[n - 1].run_id
        assert verdict["night"] == done[n].as_of.isoformat()
        assert verdict["protocol"] == "all"  # bought items are kept
        low, mean, high = verdict["differences"]["popularity"]
        assert 0 < low < mean < high  # popularity gives half of its list to items of the other kind
        assert verdict["sentence"] in collected[n]
        assert "Not judged.</strong>" not in pages[n]
        assert "in hindsight.</strong>" in pages[n]
        assert verdict["sentence"] in pages[n]
    assert ["hindsight-1-title" in page for page in pages] == [False, False, True]
    series = storage.read_parquet(storage.join(done[2].folder("hindsight"), "hindsight.parquet"))
    assert series["night"].unique().to_pylist() == [run.as_of for run in done[1:]]

    storage.remove_folder(done[0].path)  # collected: the series stays
    assert night(shop, 2) == done[2]
    assert capsys.readouterr().err.count("as before") == len(done[2].folders)
    assert storage.read_json(storage.join(done[2].folder("hindsight"), "hindsight.json")) == gathered[2]

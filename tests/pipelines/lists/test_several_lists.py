"""Several lists of each user in one run: each is, byte for byte, that of a run of it alone."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.pipelines.lists.test_shop_rules import DAYS, MADE, PROCESSES, job_of
from topkin.artifacts import storage
from topkin.pipelines import recommend
from topkin.pipelines.engine.job import EarlierVersion, Job

LISTS = {
    "mail": ("k=3", "max_per={category = 1}", "bought='keep'", "personal=0.5"),
    "sale": ("k=8", "capacity='stock'", "valid_to='until'", "because=0"),
    "local": ("k=5", "eligible={a = {user = 'segment', item = 'for'}}", "cooldown_days=20", "bought='cooldown'"),
    "fresh": ("k=4", f"new_items={{column = 'until', days = {DAYS}, at_least = 3}}"),
    "top": ("model='popularity'", "k=4"),
}
SETS = tuple(f"lists.{name}.{key}" for name, keys in LISTS.items() for key in keys)


def alone(shop: Path, name: str) -> Path:
    """The folder of a run of one list."""
    folder = shop / f"alone-{name}"
    if not folder.exists():
        job = job_of(shop, folder.name, *(f"recommend.{key}" for key in LISTS.get(name, ())))
        recommend.STAGE.execute(job)
    return folder


def files(folder: Path) -> dict[str, bytes]:
    """The files of a list below its folder, but for those of other lists."""
    paths = [p for p in folder.rglob("*") if p.is_file() and "lists" not in p.relative_to(folder).parts[:-1]]
    return {str(p.relative_to(folder)): p.read_bytes() for p in paths}


def same(shop: Path, out: str, names: tuple[str, ...] = ("", *LISTS)) -> None:
    for name in names:
        own = shop / out / "lists" / name if name else shop / out
        assert files(own) == files(alone(shop, name)), name


@pytest.mark.parametrize("beam", [(), PROCESSES])
def test_lists_are_those_of_runs_of_each(shop: Path, beam: tuple[str, ...]) -> None:
    job = job_of(shop, f"several-{len(beam)}", *SETS, beam=beam)
    summary = recommend.STAGE.execute(job)
    same(shop, f"several-{len(beam)}")
    assert sorted(summary["lists"]) == sorted(LISTS)
    assert [note.split(":")[0] for note in summary["notes"]] == [f"list {name}" for name in LISTS]


@pytest.mark.slow
def test_lists_are_the_same_from_shards(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recommend, "shards_of", lambda load: 1 if load.settings.recommend.baseline else 3)
    recommend.STAGE.execute(job_of(shop, "shards", *SETS))
    same(shop, "shards")


def test_a_list_does_not_show_again_what_it_showed_itself(shop: Path) -> None:
    recommend.STAGE.execute(job_of(shop, "before", *SETS))
    when = MADE.as_of - timedelta(days=1)
    version = EarlierVersion(days=1, run_id="a", as_of=when, folders={"recommend": str(shop / "before")})
    sets = (*SETS, "lists.top.not_shown_nights=1", "lists.new.not_shown_nights=1")
    job = job_of(shop, "after", *sets, versions=(version,))
    recommend.STAGE.execute(job)
    same(shop, "after", ("", "mail", "sale", "local"))

    def pairs(out: str) -> set[Any]:
        rows = storage.read_parts(str(shop / out / "recommendations" / f"date={MADE.as_of:%Y-%m-%d}"))
        return {(r["user_id"], r["item_id"]) for r in rows.to_pylist()}

    assert not pairs("before/lists/top") & pairs("after/lists/top")
    assert pairs("after/lists/new") == pairs("before")  # a list of tonight's showed nothing yet


def test_the_index_is_needed_and_earlier_runs_are_read_where_one_list_asks(shop: Path) -> None:
    job: Job[Any] = job_of(shop, "x", "lists.mail.search=index", "lists.mail.not_shown_nights=3")
    assert "index" in recommend.needs(job.settings)
    assert recommend.versions(job.settings).days == range(1, 4)

"""The encoder of the last validation period is chosen by nothing that it is judged by."""

from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

pytest.importorskip("tensorflow")

from topkin.artifacts import schemas, storage
from topkin.artifacts.partition import in_first_half
from topkin.config.sections import TrainSettings
from topkin.models.data.histories import PreparedHistories
from topkin.models.ops import archive
from topkin.models.training import fit, holdout
from topkin.models.training import selection as choosing
from topkin.models.training.context import TrainingContext
from topkin.models.training.holdout import HeldOut, hold_out
from topkin.models.training.lists.second import Sources
from topkin.models.training.selection import select, validation_periods, validation_trainers

AS_OF = datetime(2024, 6, 1)
DAYS, USERS, ITEMS = 8.0, 120, 60


def purchases_of(user: int, seed: int = 0) -> list[tuple[int, datetime]]:
    """What a user bought in 64 days: mostly of one kind, at quarters of a day, which float32 ages keep exactly."""
    rng = np.random.default_rng([seed, user])
    items = np.where(rng.random(14) < 0.8, (user % 3) * 20 + rng.integers(0, 20, 14), rng.integers(0, ITEMS, 14))
    quarters = np.sort(rng.integers(1, 256, 14))[::-1]
    return [(int(i), AS_OF - timedelta(hours=6 * int(q))) for i, q in zip(items, quarters, strict=True)]


def write(folder: str, rows: dict[int, list[tuple[int, datetime]]], as_of: datetime, parts: int = 2) -> pa.Table:
    """A prepared folder as of a date; users without purchases before it are not there. Returns its catalogue."""
    rows = {user: [p for p in bought if p[1] < as_of] for user, bought in rows.items()}
    rows = {user: bought for user, bought in rows.items() if bought}
    every = [(user, i, t) for user, bought in rows.items() for i, t in bought]
    catalogue = []
    for item in range(ITEMS):
        times = [t for _, i, t in every if i == item]
        catalogue.append(
            {
                "item_id": item,
                "title": None,
                "category": "abc"[item // 20],
                "price": 1.0 + item,
                "available": True,
                "events": len(times),
                "users": len({u for u, i, _ in every if i == item}),
                "recent": sum(as_of - t <= timedelta(days=7) for t in times),
                "first_sale": min(times, default=None),
                "last_sale": max(times, default=None),
            }
        )
    for part in range(parts):
        table = [
            {
                "user_id": user,
                "items": [i for i, _ in bought],
                "times": [t for _, t in bought],
                "weights": [1.0] * len(bought),
                "segment": None,
            }
            for user, bought in rows.items()
            if user % parts == part
        ]
        schema = schemas.histories(pa.int64(), pa.int64())
        path = storage.join(folder, "histories", storage.part_name(part, parts))
        storage.write_parquet(pa.Table.from_pylist(table, schema), path)
    return pa.Table.from_pylist(catalogue, schemas.catalogue(pa.int64()))


def shop(
    folder: str, as_of: datetime, rows: dict[int, list[tuple[int, datetime]]]
) -> tuple[PreparedHistories, pa.Table]:
    catalogue = write(folder, rows, as_of)
    return PreparedHistories(storage.join(folder, "histories"), catalogue["item_id"], as_of), catalogue


def context_of(**changes) -> TrainingContext:
    train = TrainSettings(svd_dim=6, next_item_dim=4, epochs=0, validation_days=DAYS, dim=4)
    train = train.changed(**{"word_buckets": 16, "title_words": 2, "svd_rank": 10, **changes})
    return TrainingContext(train=train, seed=1, recent_days=7.0, sources=("popularity", "item_knn_position"))


def held_out(context: TrainingContext, purchases: PreparedHistories, catalogue: pa.Table) -> HeldOut | str:
    periods = validation_periods(context, purchases, catalogue)
    trainers = validation_trainers(context, purchases, periods)
    selection = select(context, purchases, catalogue, periods, trainers)
    return hold_out(Sources(context, purchases), catalogue, periods, trainers, epoch=len(selection.curve))


@pytest.fixture(scope="module")
def tonight(tmp_path_factory):
    rows = {user: purchases_of(user) for user in range(USERS)}
    return *shop(str(tmp_path_factory.mktemp("tonight")), AS_OF, rows), rows


def test_it_is_the_encoder_that_a_run_at_the_cut_would_have_made(tonight, tmp_path):
    purchases, catalogue, rows = tonight
    held = held_out(context_of(validation_cuts=3), purchases, catalogue)
    assert (held.cut, held.days, held.periods, held.users) == (AS_OF - timedelta(days=DAYS), DAYS, 2, 0)
    then, sold = shop(str(tmp_path), held.cut, rows)
    wanted = fit.fit(context_of(validation_cuts=2), then, sold)
    assert archive.model_bytes(held.encoder.model) == archive.model_bytes(wanted.encoder.model)
    assert held.repurchase == wanted.repurchase
    assert held.blend == wanted.blend
    assert set(held.blend["values"]) >= {"encoder", "popularity", "item_knn_position"}


@pytest.mark.parametrize(
    ("changes", "kept"),
    [({}, True), pytest.param({"epochs": 2}, False, marks=pytest.mark.slow), ({"validation_cuts": 1}, False)],
)
def test_no_purchase_that_judges_changes_it(tonight, tmp_path, changes, kept, monkeypatch):
    """kept: all users judge. Otherwise those of the first half choose, and theirs may change it."""
    monkeypatch.setattr(choosing, "SURE_USERS", 0)  # or so few change nothing by what happens to be
    purchases, catalogue, rows = tonight
    held = held_out(context_of(**changes), purchases, catalogue)
    assert (held.users == 0) == kept
    assert held.as_set == ()
    assert held.epoch == changes.get("epochs", 0)
    rng = np.random.default_rng(3)
    first = dict(zip(rows, in_first_half(pa.array(list(rows))), strict=True))

    def other(chooses: bool) -> HeldOut:
        """With other purchases in the last days, of those who judge or of those who choose."""

        def item(user: int, was: int, time: datetime) -> int:
            return int(rng.integers(0, ITEMS)) if time >= held.cut and first[user] == chooses else was

        changed = {user: [(item(user, i, t), t) for i, t in bought] for user, bought in rows.items()}
        return held_out(context_of(**changes), *shop(str(tmp_path / str(chooses)), AS_OF, changed))

    def same(a: HeldOut, b: HeldOut) -> bool:
        models = [archive.model_bytes(one.encoder.model) for one in (a, b)]
        return models[0] == models[1] and (a.repurchase, a.blend) == (b.repurchase, b.blend)

    assert same(held, other(False))
    assert same(held, other(True)) == kept


def test_half_of_the_users_choose_what_only_the_last_period_can_tell(tonight):
    purchases, catalogue, _ = tonight
    held = held_out(context_of(validation_cuts=1), purchases, catalogue)
    halves = [in_first_half(purchases.user_ids(name)) for name in purchases.names()]
    periods = validation_periods(context_of(validation_cuts=1), purchases, catalogue)
    rows = periods.searches[0].cut.rows
    assert held.users == sum(int(half[some].sum()) for half, some in zip(halves, rows, strict=True))
    assert 0 < held.users < sum(len(some) for some in rows)


def test_with_too_few_users_for_two_halves_weights_are_those_of_the_settings(tonight, tmp_path):
    rows = {user: bought for user, bought in tonight[2].items() if user < 42}
    held = held_out(context_of(epochs=1), *shop(str(tmp_path), AS_OF, rows))
    assert (held.users, held.as_set, held.periods) == (0, ("trained",), 2)
    assert {block.name: block.weight for block in held.encoder.blocks}["trained"] == 1.0


def test_without_enough_users_it_says_how_many_it_takes_and_when(tonight, tmp_path):
    rows = {user: bought for user, bought in tonight[2].items() if user < 12}
    why = held_out(context_of(), *shop(str(tmp_path), AS_OF, rows))
    assert why.startswith("it takes 20 users who bought something new in the last 8 days and had bought before, ")
    assert "more nights" not in why  # 8 days are held out tonight and later: a longer past will not do
    rows = {user: bought for user, bought in tonight[2].items() if user < 18}
    longer = held_out(context_of(validation_days=28), *shop(str(tmp_path / "b"), AS_OF, rows))
    users = int(longer.split("had bought before, ")[1].split(" ")[0])
    span = (AS_OF - min(t for bought in rows.values() for _, t in bought)) / timedelta(days=1)
    assert f"about {int(np.ceil(span * (20 / users - 1)))} more nights" in longer


def test_positions_hold_no_days_out(tonight):
    purchases, catalogue, _ = tonight
    assert held_out(context_of().positional(), purchases, catalogue) == holdout.NO_TIMES


class Killed(BaseException):
    pass


def test_a_training_that_goes_on_from_everything_takes_what_was_kept(tonight, tmp_path):
    purchases, catalogue, _ = tonight
    context = context_of(epochs=2)
    folders = {"scratch": str(tmp_path / "scratch"), "holdout_folder": str(tmp_path / "scratch/holdout")}

    def die(phase, epoch):
        if (phase, epoch["epoch"]) == ("refit", 2):
            raise Killed

    whole = fit.fit(context, purchases, catalogue, holdout_folder=str(tmp_path / "whole"))
    if len(whole.epochs) < 2:
        pytest.skip("the trained block was left out or trained once")
    with pytest.raises(Killed):
        fit.fit(context, purchases, catalogue, **folders, on_epoch=die)
    resumed = fit.fit(context, purchases, catalogue, **folders)
    assert resumed.holdout == whole.holdout
    assert storage.sha256(str(tmp_path / "scratch/holdout/encoder.keras")) == whole.holdout["encoder"]
    assert archive.model_bytes(resumed.encoder.model) == archive.model_bytes(whole.encoder.model)
    storage.remove_folder(folders["holdout_folder"])
    again = fit.fit(context, purchases, catalogue, **folders)  # what was kept is gone: all is done again
    assert again.holdout == whole.holdout
    assert holdout.is_kept(again.holdout, folders["holdout_folder"])


def test_what_is_kept_is_known_by_its_hash(tonight, tmp_path):
    purchases, catalogue, _ = tonight
    held = held_out(context_of(), purchases, catalogue)
    record = holdout.keep(held, str(tmp_path))
    assert holdout.is_kept(record, str(tmp_path))
    assert not holdout.is_kept({**record, "encoder": "f" * 64}, str(tmp_path))
    assert not holdout.is_kept(record, str(tmp_path / "elsewhere"))
    assert not holdout.is_kept(record, "")
    assert holdout.is_kept({"reason": "too few"}, str(tmp_path))
    assert not holdout.is_kept({}, str(tmp_path))
    assert holdout.is_kept({}, "")
    assert replace(held, users=3).to_json()["users"] == 3

"""Users who ask to be forgotten: no byte names them, the others' tables stay, and no later night takes them in."""

import shutil
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from topkin.artifacts import lookup, manifest, runs, storage
from topkin.config.load import settings_of
from topkin.errors import ArtifactError, InputError
from topkin.pipelines.engine import stages
from topkin.pipelines.publish import one_encoder
from topkin.pipelines.run import run_all
from topkin.pipelines.upkeep.forget import forget, read_users
from topkin.privacy.scan import occurrences


@pytest.fixture
def out(night, tmp_path: Path) -> str:
    """The night's output folder, in a place of its own."""
    shutil.copytree(night.settings.run.output, tmp_path / "out", dirs_exist_ok=True)
    return str(tmp_path / "out")


def users_of(run: runs.Run) -> list:
    return sorted(storage.read_parts(f"{run.folder('prepare')}/histories", ["user_id"])["user_id"].to_pylist())


def tables(run: runs.Run) -> dict[str, pa.Table]:
    by_name = {}
    for stage, folder in run.folders.items():
        for name in storage.files(folder):
            if name.endswith(".parquet"):
                by_name[f"{stage}/{name}"] = storage.read_parquet(f"{folder}/{name}")
    return by_name


def test_no_file_names_them_and_what_others_have_is_as_it_was(night, out: str) -> None:
    before = runs.published(out)
    gone = users_of(before)[3::40]
    assert occurrences(before.path, gone)
    collected: list[str] = []
    cleared = forget(out, gone, collected.append)
    assert cleared.known == len(gone) == cleared.asked
    assert occurrences(out, gone) == {}
    run = runs.published(out)
    assert cleared.run == run != before
    assert runs.run_ids(out) == [run.run_id]
    assert set(run.folders) == set(before.folders)
    for folder in run.folders.values():
        manifest.verify(folder)
    one_encoder(run)
    assert users_of(run) == sorted(set(users_of(night.run)) - set(gone))
    old = tables(night.run)
    for name, table in tables(run).items():
        left = old[name]
        if "user_id" in left.column_names:
            left = left.filter(pa.array(~np.isin(np.array(left["user_id"].to_pylist()), gone)))
        if "similar_users" in name:
            left = left.filter(pa.array(~np.isin(np.array(left["neighbour_id"].to_pylist()), gone)))
            table, left = table.drop(["rank"]), left.drop(["rank"])
        if "rejects" not in name:
            assert table.equals(left), name
        assert table.schema.equals(old[name].schema.remove(1) if "similar_users" in name else old[name].schema)
    kept = users_of(run)[0]
    assert lookup.user(run, kept).recommendations == lookup.user(night.run, kept).recommendations
    assert lookup.user(run, gone[0]) is None


def test_nothing_leads_back_to_them(night, out: str) -> None:
    gone = users_of(night.run)[:2]
    run = forget(out, gone).run
    with pytest.raises(ArtifactError):
        runs.roll_back(out)
    again = night.again(f"run.output={out}", "train.epochs=0")
    fresh = stages.run_stages(again, as_of=night.shop.as_of, only="prepare")
    assert fresh.run_id != run.run_id
    assert not set(users_of(fresh)) & set(gone)
    assert occurrences(fresh.folder("prepare"), gone) == {}
    source = storage.read_json(f"{fresh.folder('prepare')}/statistics.json")["sources"]["purchases"]
    assert source["rejected"]["user is forgotten"] > 0
    assert source["accepted"] + source["duplicates"] + sum(source["rejected"].values()) == source["rows"]


def test_the_same_command_again_changes_nothing_and_another_adds_to_it(night, out: str) -> None:
    first, second, *_ = users_of(night.run)
    run = forget(out, [first]).run
    again = forget(out, [first])
    assert (again.run, again.known, again.removed) == (run, 0, [])
    both = forget(out, [second]).run
    assert not {first, second} & set(users_of(both))


def test_users_of_two_letters_and_of_words_that_items_have_too_are_forgotten(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    users = ["ab", "encoder", *(f"{a}{b}" for a in "qrst" for b in "uvwxyz")]
    as_of = datetime(2024, 6, 1)
    rows = [(u, str(rng.choice(users)), as_of - timedelta(hours=int(rng.integers(1, 900)))) for u in users * 8]
    names = ("user_id", "item_id", "timestamp")
    pq.write_table(pa.table(dict(zip(names, zip(*rows, strict=True), strict=True))), tmp_path / "p.parquet")
    sections = {
        "run": {"output": str(tmp_path / "out"), "parts": 2},
        "purchases": {"path": str(tmp_path / "p.parquet")},
        "train": {"epochs": 0},
        "publish": {"must_beat": []},
    }
    settings = settings_of(sections, "the test")
    run = run_all(settings, as_of=as_of)
    cleared = forget(run.root, ["ab", "encoder"])
    assert (cleared.known, cleared.in_columns) == (2, 2)
    run = runs.published(run.root)
    assert not {"ab", "encoder"} & set(users_of(run))
    assert {"ab", "encoder"} <= set(tables(run)["prepare/catalogue.parquet"]["item_id"].to_pylist())


def test_a_damaged_version_is_not_taken_as_the_source(night, out: str) -> None:
    run = runs.published(out)
    part = next(Path(run.folder("recommend")).rglob("*.parquet"))
    part.write_bytes(part.read_bytes()[:-9])
    with pytest.raises(ArtifactError, match="changed after its stage finished"):
        forget(out, users_of(run)[:1])
    assert runs.published(out).run_id == run.run_id


def test_the_users_are_read_from_a_text_or_a_table(tmp_path: Path) -> None:
    (tmp_path / "u.txt").write_text("\ufeff7\n\n 8 \n7\n")
    assert read_users(str(tmp_path / "u.txt"), pa.int64()) == [7, 8]
    pq.write_table(pa.table({"x": [1, 2], "user_id": pa.array([5, None], pa.int32())}), tmp_path / "u.parquet")
    assert read_users(str(tmp_path / "u.parquet"), pa.int64()) == [5]
    pq.write_table(pa.table({"who": ["a", "a"]}), tmp_path / "one.parquet")
    assert read_users(str(tmp_path / "one.parquet"), pa.string()) == ["a"]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("none.txt", None, "is not there"),
        ("empty.txt", b"\n", "it holds none"),
        ("head.txt", b"user_id\n7\n", "'user_id': one id a line, and no heading"),
        ("latin.txt", b"\xff\xfe", "must be text in UTF-8"),
    ],
)
def test_a_file_that_names_nobody_is_refused(tmp_path: Path, name: str, content: bytes | None, words: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as e:
        read_users(str(tmp_path / name), pa.int64())
    assert words in str(e.value)


def test_a_table_of_several_columns_must_say_which(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1], "b": [2]}), tmp_path / "two.parquet")
    pq.write_table(pa.table({"user_id": ["a"]}), tmp_path / "text.parquet")
    with pytest.raises(InputError, match="must have a column user_id, or one column alone; its columns are a, b"):
        read_users(str(tmp_path / "two.parquet"), pa.int64())
    with pytest.raises(InputError, match="must hold ids as the users have them, int64, it is string"):
        read_users(str(tmp_path / "text.parquet"), pa.int64())


def test_a_user_whose_id_an_item_has_too_is_forgotten_and_the_item_stays(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    ids = [f"shop-{n:02d}" for n in range(12)]
    moments = [datetime(2024, 5, 1) + timedelta(hours=n) for n in range(200)]
    bought = {"user_id": rng.choice(ids, 200), "item_id": rng.choice(ids[:8], 200), "timestamp": moments}
    pq.write_table(pa.table(bought), tmp_path / "purchases.parquet")
    values = {
        "purchases": {"path": str(tmp_path / "purchases.parquet")},
        "run": {"output": str(tmp_path / "out"), "parts": 1},
        "train": {"epochs": 0},
    }
    run_all(settings_of(values, "test"), as_of=datetime(2024, 5, 10), anyway="a test")
    cleared = forget(str(tmp_path / "out"), ["shop-03"])
    run = runs.published(str(tmp_path / "out"))
    assert cleared.run == run
    assert cleared.in_columns == cleared.known == 1
    assert "shop-03" not in users_of(run)
    assert "shop-03" in storage.read_parquet(f"{run.folder('prepare')}/catalogue.parquet")["item_id"].to_pylist()

"""A published run in a program: found, read with its checksums, refused where it is damaged."""

import shutil
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import topkin
from topkin import errors
from topkin.artifacts import storage


def test_the_published_run_is_found_by_the_output_folder_and_by_its_own(small_run: Any) -> None:
    by_pointer, by_folder = topkin.open_run(small_run.root), topkin.open_run(Path(small_run.path))
    assert by_pointer.run_id == by_folder.run_id == "r1"
    assert by_pointer.as_of == datetime(2024, 5, 1)
    assert by_pointer.tables == (
        "histories", "catalogue", "recommendations", "short_lists", "similar_items", "similar_users",
        "neighbours_bought",
    )  # fmt: skip
    assert by_pointer.metrics is None
    assert by_pointer.gates is None
    assert len(by_folder.table("recommendations", ["user_id"])) == 40


def test_tables_of_other_lists_have_their_names(small_run: Any) -> None:
    folder = small_run.folder("recommend")
    shutil.copytree(f"{folder}/recommendations", f"{folder}/lists/mail/recommendations")
    shutil.copytree(f"{folder}/short_lists", f"{folder}/lists/mail/short_lists")
    run = topkin.open_run(small_run.root)
    assert run.tables[-2:] == ("lists/mail/recommendations", "lists/mail/short_lists")
    assert run.table("lists/mail/recommendations").equals(run.table("recommendations"))
    users = run.table("histories")["user_id"].combine_chunks()[:2]
    assert len(run.rows("lists/mail/recommendations", users)) == 4
    with pytest.raises(ValueError, match="lists/mail/short_lists, got 'lists/home/recommendations'"):
        run.table("lists/home/recommendations")


def test_rows_of_some_ids_are_read_in_the_tables_type(small_run: Any) -> None:
    run = topkin.open_run(small_run.root)
    users = run.table("histories")["user_id"].combine_chunks()
    rows = run.rows("recommendations", pa.concat_arrays([users[3:5], users[11:12]]), ["user_id", "rank"])
    assert sorted(rows["user_id"].to_pylist()) == sorted(2 * [users[3].as_py(), users[4].as_py(), users[11].as_py()])
    item = run.table("similar_items")["item_id"].combine_chunks()[:1]
    assert run.rows("similar_items", item)["rank"].to_pylist() == [1, 2]
    assert len(run.rows("recommendations", users[:0])) == 0


def test_a_page_that_changed_is_refused(small_run: Any) -> None:
    run = topkin.open_run(small_run.root)
    folder = Path(small_run.folder("recommend"), "recommendations", "date=2024-05-01")
    users = run.table("histories", ["user_id"])["user_id"].combine_chunks()
    for path in folder.iterdir():
        data = bytearray(path.read_bytes())
        for at in range(8, len(data) // 4):  # pages come first, the footer last
            data[at] ^= 0xFF
        path.write_bytes(data)
    with pytest.raises(errors.ArtifactError, match="is damaged"):
        run.table("recommendations")
    with pytest.raises(errors.ArtifactError, match="is damaged"):
        run.rows("recommendations", users)


def test_what_is_not_there_is_told(small_run: Any, tmp_path: Path) -> None:
    run = topkin.open_run(small_run.root)
    with pytest.raises(ValueError, match=r"a run's tables are events, .*got 'lists'"):
        run.table("lists")
    with pytest.raises(errors.ArtifactError, match=r"has no folder of the stage embed: run topkin embed first"):
        run.table("item_embeddings")
    with pytest.raises(errors.ArtifactError, match=r"current\.json.*topkin run makes one"):
        topkin.open_run(tmp_path / "empty")
    with pytest.raises(errors.ArtifactError, match="must hold settings of this version"):
        _ = run.settings  # the tables by hand were made with none
    storage.write_json({"run_id": "r9"}, storage.join(small_run.root, "current.json"))
    with pytest.raises(errors.ArtifactError, match=r"current\.json is damaged"):
        topkin.open_run(small_run.root)


def test_rows_of_a_table_by_neither_are_refused(small_run: Any) -> None:
    run = topkin.open_run(small_run.root)
    for name in ("catalogue", "rejects"):
        with pytest.raises(ValueError, match=f"of a table in parts by user or item, got '{name}'"):
            run.rows(name, pa.array(["a"]))

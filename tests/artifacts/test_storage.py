import os

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest

from tests.artifacts.processes import at_once
from topkin.artifacts import manifest, storage
from topkin.errors import ArtifactError, BusyError

TABLE = pa.table({"id": ["a", "b", None], "x": [1, 2, 3]})


def test_the_same_table_gives_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        storage.write_parquet(TABLE, f"{tmp_path}/{name}/t.parquet")
    assert (tmp_path / "one/t.parquet").read_bytes() == (tmp_path / "two/t.parquet").read_bytes()
    assert storage.read_parquet(f"{tmp_path}/one/t.parquet").equals(TABLE)


def test_parts_are_read_in_name_order_and_hidden_files_are_not_seen(tmp_path):
    for part in (2, 0, 1):
        storage.write_parquet(pa.table({"part": [part]}), f"{tmp_path}/{storage.part_name(part, 3)}")
    (tmp_path / ".part-leftover.parquet").write_bytes(b"half")
    assert storage.read_parts(str(tmp_path))["part"].to_pylist() == [0, 1, 2]


def test_a_flipped_bit_in_a_page_is_seen(tmp_path):
    file = tmp_path / "t.parquet"
    storage.write_parquet(pa.table({"x": list(range(5000))}), str(file))
    column = pq.read_metadata(file).row_group(0).column(0)
    data = bytearray(file.read_bytes())
    data[column.data_page_offset + column.total_compressed_size // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(ArtifactError, match="is damaged"):
        storage.read_parquet(str(file))


def test_a_writer_that_fails_leaves_the_old_file_and_nothing_beside_it(tmp_path):
    path = f"{tmp_path}/v.json"
    storage.write_json({"v": 1}, path)
    with pytest.raises(ValueError, match="JSON"):
        storage.write_json({"v": float("nan")}, path)
    assert storage.read_json(path) == {"v": 1}
    assert os.listdir(tmp_path) == ["v.json"]


@pytest.mark.parametrize("read", [storage.read_parquet, storage.read_json, storage.read_parts])
def test_what_is_missing_is_named_with_the_cure(tmp_path, read):
    with pytest.raises(ArtifactError, match=r"nothing.*run the stage"):
        read(f"{tmp_path}/nothing")


def test_uris_and_paths_reach_the_same_file(tmp_path):
    storage.write_json([1], f"file://{tmp_path}/deep/er/x.json")
    assert storage.read_json(f"{tmp_path}/deep/er/x.json") == [1]
    assert storage.files(f"file://{tmp_path}") == ["deep/er/x.json"]


def test_a_folder_moves_whole_and_its_seal_is_copied_last(tmp_path):
    for name in ("z.bin", "manifest.json", "deep/a.bin"):
        storage.write_bytes(name.encode(), f"{tmp_path}/from/{name}")
    storage.copy_folder(f"{tmp_path}/from", f"{tmp_path}/copied", last="manifest.json")
    copied = [(tmp_path / "copied" / n).stat().st_mtime_ns for n in ("deep/a.bin", "z.bin", "manifest.json")]
    assert copied == sorted(copied)
    storage.move_folder(f"{tmp_path}/from", f"{tmp_path}/to", last="manifest.json")
    assert (
        storage.files(f"{tmp_path}/to")
        == storage.files(f"{tmp_path}/copied")
        == ["deep/a.bin", "manifest.json", "z.bin"]
    )
    assert not storage.exists(f"{tmp_path}/from")


def _elsewhere(tmp_path, monkeypatch):
    """Storage that is no local disk to pyarrow, such as a bucket."""
    fs = pafs.SubTreeFileSystem(str(tmp_path), pafs.LocalFileSystem())
    monkeypatch.setattr(storage, "filesystem", lambda path: (fs, path))
    return "folder"


@pytest.mark.parametrize("place", [lambda tmp_path, monkeypatch: f"{tmp_path}/folder", _elsewhere])
def test_a_file_is_swapped_only_where_it_is_what_was_read(tmp_path, monkeypatch, place):
    path = f"{place(tmp_path, monkeypatch)}/v"
    storage.make_folder(os.path.dirname(path))
    assert not storage.swap(path, b"one", b"two")
    assert storage.swap(path, None, b"one")
    assert not storage.swap(path, None, b"other")
    assert not storage.swap(path, b"other", b"two")
    assert storage.read_bytes(path) == b"one"
    assert storage.swap(path, b"one", b"two")
    assert storage.read_bytes(path) == b"two"
    assert not storage.swap(path, b"one", None)
    assert storage.swap(path, b"two", None)
    assert storage.read_if_there(path) is None


def test_a_bucket_that_another_wrote_to_in_between_says_so(tmp_path, monkeypatch):
    path = f"{_elsewhere(tmp_path, monkeypatch)}/v"
    storage.write_bytes(b"one", path)
    monkeypatch.setattr(storage, "_replace", lambda path, data: storage.write_bytes(b"another's", path) is None)
    assert not storage.swap(path, b"one", b"mine")


def _count_up(path, times):
    for _ in range(times):
        while True:
            seen = storage.read_if_there(path)
            if storage.swap(path, seen, str(int(seen or b"0") + 1).encode()):
                break


def test_of_many_processes_that_swap_none_loses_the_others_write(tmp_path):
    assert at_once([(_count_up, f"{tmp_path}/n", 25)] * 8) == [0] * 8
    assert storage.read_bytes(f"{tmp_path}/n") == b"200"


def test_who_stands_still_in_a_swap_is_told_to_the_others(tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "GUARD_SECONDS", 0)
    with storage._guard(f"{tmp_path}/v"), pytest.raises(BusyError, match="has been at it for 0 s"):
        storage.swap(f"{tmp_path}/v", None, b"mine")
    assert storage.swap(f"{tmp_path}/v", None, b"mine")


def test_the_size_and_the_last_change_of_a_folder_are_those_of_all_below_it(tmp_path):
    assert storage.folder_size(f"{tmp_path}/nothing") == storage.changed(f"{tmp_path}/nothing") == 0
    for name in ("deep/a", ".hidden"):
        storage.write_bytes(b"12345", f"{tmp_path}/at/{name}")
    assert storage.folder_size(f"{tmp_path}/at") == 10
    for path in (tmp_path / "at", tmp_path / "at/deep", tmp_path / "at/.hidden"):
        os.utime(path, (100, 100))
    os.utime(tmp_path / "at/deep/a", (200, 200))
    assert storage.changed(f"{tmp_path}/at") == 200


def test_a_stage_and_every_folder_that_leads_to_it_are_on_the_disk(tmp_path, monkeypatch):
    synced, fsync = [], os.fsync

    def spy(descriptor):
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", spy)
    attempt, target = f"{tmp_path}/runs/r1/.prepared-x", f"{tmp_path}/runs/r1/prepared"
    storage.write_bytes(b"x", f"{attempt}/deep/er/a.bin")
    synced.clear()
    manifest.seal(attempt, stage="prepare", key="k", summary={})
    within = ["deep/er/a.bin", "deep/er", "deep"]
    assert [synced.index(f"{attempt}/{name}") for name in within] == sorted(
        synced.index(f"{attempt}/{n}") for n in within
    )
    assert attempt in synced
    synced.clear()
    storage.move_folder(attempt, target, last=manifest.NAME)
    assert synced == [f"{tmp_path}/runs/r1", f"{tmp_path}/runs", str(tmp_path)]


@pytest.mark.parametrize(
    ("mode", "file", "folder"), [("0640", 0o640, 0o750), ("600", 0o600, 0o700), ("0664", 0o664, 0o775)]
)
def test_files_and_folders_have_the_rights_that_are_set(mode, file, folder, tmp_path):
    before = os.umask(0)
    os.umask(before)
    with storage.files_of_mode(mode):
        storage.write_parquet(TABLE, f"{tmp_path}/new/t.parquet")
    assert (tmp_path / "new/t.parquet").stat().st_mode & 0o777 == file
    assert (tmp_path / "new").stat().st_mode & 0o777 == folder
    assert os.umask(before) == before


def test_no_credential_is_stored_in_json(tmp_path):
    storage.write_json({"path": "s3://AKIA:secret@bucket/x", "n": 1}, f"{tmp_path}/a.json")
    assert storage.read_json(f"{tmp_path}/a.json") == {"path": "s3://***@bucket/x", "n": 1}
    manifest.seal(str(tmp_path), stage="s", key="k", summary={"path": "s3://AKIA:secret@bucket/x"})
    assert manifest.verify(str(tmp_path))["summary"] == {"path": "s3://***@bucket/x"}


def test_texts_are_stored_by_dictionaries_wherever_they_lie_and_numbers_as_they_are(tmp_path):
    table = pa.table(
        {
            "id": ["a", "b", "a"],
            "words": [["x", "y"], [], ["x"]],
            "of": [{"brand": "k", "size": 1.5, "kinds": ["p"]}] * 3,
            "score": pa.array([0.5, 0.5, 0.5], pa.float32()),
            "vector": pa.array([[1.0, 2.0]] * 3, pa.list_(pa.float32(), 2)),
        }
    )
    path = str(tmp_path / "table.parquet")
    storage.write_parquet(table, path)
    group = pq.ParquetFile(path).metadata.row_group(0)
    columns = [group.column(n) for n in range(group.num_columns)]
    assert {column.path_in_schema for column in columns if column.has_dictionary_page} == {
        "id",
        "words.list.element",
        "of.brand",
        "of.kinds.list.element",
    }
    assert storage.read_parquet(path).equals(table)

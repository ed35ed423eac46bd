import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from topkin.artifacts import manifest, storage
from topkin.errors import ArtifactError

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

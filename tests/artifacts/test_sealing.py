"""Sealed files: what a reader is given is what was written, or an ArtifactError that names the file."""

import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from topkin.artifacts import manifest, runs, sealing, storage
from topkin.artifacts.objects import digests
from topkin.errors import ArtifactError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> int:
    """Blocks of few bytes, so that small files have several."""
    monkeypatch.setattr(digests, "BLOCK", 64)
    return 64


def seal(folder: Path) -> None:
    manifest.seal(str(folder), stage="prepare", key="k", summary={"rows": 3})


@pytest.mark.parametrize("size", [0, 1, 63, 64, 65, 128, 1000])
def test_a_sealed_file_reads_as_a_file_does(size: int, small_blocks: int, tmp_path: Path) -> None:
    data = bytes(n % 251 for n in range(size))
    storage.write_bytes(data, str(tmp_path / "deep" / "er" / "file.bin"))
    seal(tmp_path)
    plain = io.BytesIO(data)
    with storage.open_verified(str(tmp_path / "deep" / "er" / "file.bin")) as file:
        assert isinstance(file, sealing.Verified)
        for offset, whence, n in [(0, 0, 10), (5, 1, 70), (-3, 2, 9), (60, 0, 8), (0, 0, -1), (size + 5, 0, 4)]:
            if size + (offset if whence == 2 else 0) >= 0:
                assert file.seek(offset, whence) == plain.seek(offset, whence)
                assert file.read(n) == plain.read(n)
                assert file.tell() == plain.tell()
    assert storage.read_bytes(str(tmp_path / "deep" / "er" / "file.bin")) == data


def test_no_changed_byte_of_any_place_is_given(small_blocks: int, tmp_path: Path) -> None:
    path = tmp_path / "file.bin"
    path.write_bytes(bytes(200))
    seal(tmp_path)
    for at in range(200):
        changed = bytearray(200)
        changed[at] = 1
        path.write_bytes(changed)
        with storage.open_verified(str(path)) as file:
            file.seek(at // 64 * 64)
            with pytest.raises(ArtifactError, match=r"file\.bin changed after its stage finished"):
                file.read(1)
            file.seek((at // 64 + 1) % 3 * 64)
            assert file.read(1) == b"\0"  # what is not damaged can be read


@pytest.mark.parametrize("data", [b"", bytes(199), bytes(201)])
def test_a_file_of_another_length_is_not_opened(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "file.bin"
    path.write_bytes(bytes(200))
    seal(tmp_path)
    path.write_bytes(data)
    with pytest.raises(ArtifactError, match=f"200 bytes.*found {len(data)} bytes"):
        storage.read_bytes(str(path))


def test_every_flip_of_a_table_is_seen_or_gives_the_same(tmp_path: Path) -> None:
    table = pa.table({"user_id": list(range(50)), "item": [f"i{n % 7}" for n in range(50)]})
    path = tmp_path / "t" / "part-00000-of-00001.parquet"
    storage.write_parquet(table, str(path))
    seal(tmp_path)
    data = path.read_bytes()
    for at in range(0, len(data), 7):
        path.write_bytes(data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :])
        with pytest.raises(ArtifactError, match="changed after its stage finished"):
            storage.read_parquet(str(path))
    path.write_bytes(data)
    assert storage.read_parquet(str(path)).equals(table)


def test_a_file_that_came_later_is_none_of_the_stage(tmp_path: Path) -> None:
    seal(tmp_path)
    (tmp_path / "more.json").write_text("{}")
    with pytest.raises(ArtifactError, match=r"more\.json is not in .*manifest\.json"):
        storage.read_json(str(tmp_path / "more.json"))


def test_a_part_that_is_gone_or_was_added_is_told(tmp_path: Path) -> None:
    part = pa.table({"x": [1]})
    for name in ("a", "b"):
        storage.write_parquet(part, str(tmp_path / "deep" / "t" / f"{name}.parquet"))
    seal(tmp_path)
    folder = str(tmp_path / "deep" / "t")
    assert len(storage.read_parts(folder)) == 2
    (tmp_path / "deep" / "t" / "a.parquet").rename(tmp_path / "deep" / "t" / "c.parquet")
    with pytest.raises(ArtifactError, match=r"t/a\.parquet is missing"):
        storage.read_parts(folder)
    storage.write_parquet(part, str(tmp_path / "deep" / "t" / "a.parquet"))
    with pytest.raises(ArtifactError, match=r"t/c\.parquet is not in the manifest"):
        storage.read_parts(folder)


def test_a_manifest_of_somebody_else_is_none(tmp_path: Path) -> None:
    for text in ("{", "[]", '{"files": ["a.json"]}', '{"name": "web app"}'):
        (tmp_path / "manifest.json").write_text(text)
        (tmp_path / "a.json").write_text('{"b": 1}')
        assert storage.read_json(str(tmp_path / "a.json")) == {"b": 1}


@given(JSON, st.data())
def test_a_seal_changes_with_the_content_alone(value: Any, data: st.DataObject) -> None:
    sealed = sealing.sealed({"a": value})
    again = json.loads(json.dumps(sealed, indent=2))
    assert sealing.unsealed(again, "x.json", "cure") == sealed
    other = data.draw(JSON.filter(lambda o: json.dumps(o, sort_keys=True) != json.dumps(value, sort_keys=True)))
    with pytest.raises(ArtifactError, match=r"x\.json is not what its digest says"):
        sealing.unsealed({**again, "a": other}, "x.json", "cure")


UNREADABLE = {
    "empty": b"",
    "cut": b'{"stages": {"prep',
    "a list": b"[1, 2]",
    "a number": b"3",
    "null": b"null",
    "NaN": b'{"run_id": NaN}',
    "infinity": b'{"seal": -Infinity}',
    "nested": b"[" * 100_000 + b"]" * 100_000,
    "nested objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "latin-1": '{"run_id": "caf\u00e9"}'.encode("latin-1"),
    "utf-16": '{"run_id": 1}'.encode("utf-16"),
    "zeros": bytes(1000),
    "an object": b"{}",
    "of before": b'{"run_id": "r1", "as_of": "2024-05-01T00:00:00", "stages": {}, "history": []}',
    "a long number": b'{"run_id": ' + b"9" * 10_000 + b"}",
}


@pytest.mark.parametrize("name", ["current.json", "runs/r1/run.json", "runs/r1/prepared/manifest.json"])
@pytest.mark.parametrize("data", UNREADABLE.values(), ids=UNREADABLE.keys())
def test_json_of_any_shape_is_an_error_that_names_the_file(name: str, data: bytes, tmp_path: Path) -> None:
    root = str(tmp_path)
    run = runs.Run(root, "r1", runs.datetime(2024, 5, 1))
    storage.write_bytes(b"data", storage.join(run.path, "prepared", "file.bin"))
    seal(tmp_path / "runs/r1/prepared")
    run = runs.record_stage(run, "prepare", {"folder": "runs/r1/prepared"}, {})
    runs.publish_run(run)
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ArtifactError, match=rf"{name}.*[:;] ") as raised:
        runs.published(root).folder("prepare")  # type: ignore[union-attr]
    assert "\n" not in str(raised.value)


def test_a_key_that_a_file_lacks_is_told_with_the_file(tmp_path: Path) -> None:
    storage.write_json({"a": {"b": 1}}, str(tmp_path / "x.json"))
    held = storage.read_json(str(tmp_path / "x.json"))
    assert held == {"a": {"b": 1}}
    assert held.get("c") is None
    with pytest.raises(ArtifactError, match=r"x\.json has no 'c'"):
        held["a"]["c"]


def _published(root: Path, *names: str) -> None:
    for day, name in enumerate(names, 1):
        run = runs.Run(str(root), name, runs.datetime(2024, 5, day))
        storage.write_bytes(name.encode(), storage.join(run.path, "prepared", "file.bin"))
        seal(root / "runs" / name / "prepared")
        runs.publish_run(runs.record_stage(run, "prepare", {"folder": f"runs/{name}/prepared"}, {}))


@pytest.mark.parametrize("what", ["runs/r1", "runs/r1/prepared", "runs/r1/run.json", "runs/r1/prepared/file.bin"])
def test_whatever_is_put_in_the_place_of_another_is_seen(what: str, tmp_path: Path) -> None:
    _published(tmp_path, "r1", "r2")
    one, two, aside = tmp_path / what, tmp_path / what.replace("r1", "r2"), tmp_path / "aside"
    one.rename(aside)
    two.rename(one)
    aside.rename(two)
    with pytest.raises(ArtifactError):
        storage.read_bytes(storage.join(runs.published(str(tmp_path)).folder("prepare"), "file.bin"))  # type: ignore[union-attr]


def test_stages_made_again_after_publishing_are_seen(tmp_path: Path) -> None:
    _published(tmp_path, "r1")
    storage.write_bytes(b"other", str(tmp_path / "runs/r1/prepared/file.bin"))
    seal(tmp_path / "runs/r1/prepared")
    run = runs.record_stage(runs.read_run(str(tmp_path), "r1"), "prepare", {"folder": "runs/r1/prepared"}, {})
    with pytest.raises(ArtifactError, match="is not as it was published"):
        runs.published(str(tmp_path))
    runs.publish_run(run)
    assert runs.published(str(tmp_path)) is not None

"""Finding a finished stage reads none of the other runs, and nothing that is stale, damaged or gone is found."""

import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from topkin.artifacts import manifest, stage_index, storage


def finish(root: Path | str, run_id: str, folder: str, key: str, *, note: bool = True) -> str:
    place = f"runs/{run_id}/{folder}"
    storage.write_bytes(b"data", f"{root}/{place}/file.bin")
    if note:
        stage_index.note(str(root), key, place)
    manifest.seal(f"{root}/{place}", stage=folder, key=key, summary={})
    return place


def test_a_stage_is_found_by_its_key_alone(tmp_path):
    root = str(tmp_path)
    assert stage_index.find(root, "k") is None
    place = finish(root, "r1", "prepared", "k")
    assert stage_index.find(root, "k") == place
    assert stage_index.find(root, "other") is None


def test_an_output_without_an_index_is_read_once(tmp_path, monkeypatch):
    root, read = str(tmp_path), []
    places = [finish(root, f"r{n}", "prepared", f"k{n}", note=False) for n in range(5)]
    assert stage_index.find(root, "k3") == places[3]
    monkeypatch.setattr(stage_index.manifest, "read", lambda folder: read.append(folder) or {"key": "k4"})
    assert stage_index.find(root, "k4") == places[4]
    assert stage_index.find(root, "k9") is None
    assert read == [f"{root}/{places[4]}"]  # its own manifest, whatever else is there


def test_of_two_stages_with_one_key_the_other_is_found_when_one_is_gone(tmp_path):
    root = str(tmp_path)
    first, second = (finish(root, name, "prepared", "k") for name in ("r1", "r2"))
    assert stage_index.find(root, "k") == second
    shutil.rmtree(tmp_path / second)
    assert stage_index.find(root, "k") == first
    assert stage_index.find(root, "k") == first
    shutil.rmtree(tmp_path / first)
    assert stage_index.find(root, "k") is None
    assert not storage.exists(f"{root}/runs/stages/k")


def test_a_stage_that_did_not_get_its_name_is_not_there(tmp_path):
    root = str(tmp_path)
    finish(root, "r0", "prepared", "other")
    stage_index.note(root, "k", "runs/r1/prepared")
    assert stage_index.find(root, "k") is None


@pytest.mark.parametrize("text", ["{", "[]", "{}", "3", "\x00"])
@pytest.mark.parametrize("index", [True, False])
def test_a_damaged_manifest_is_a_warning_that_names_it(tmp_path, caplog, text, index):
    root = str(tmp_path)
    place = finish(root, "r1", "prepared", "k", note=index)
    other = finish(root, "r0", "prepared", "whole", note=index)
    if index:
        assert stage_index.find(root, "whole") == other
    (tmp_path / place / "manifest.json").write_text(text)
    assert stage_index.find(root, "k") is None
    assert stage_index.find(root, "whole") == other
    assert f"{place}/manifest.json cannot be read" in caplog.text


@pytest.mark.parametrize("data", [b"", b"\xff\xfe", b"runs/../../elsewhere", b"../r1/prepared"])
def test_a_damaged_entry_is_written_anew(tmp_path, data):
    root = str(tmp_path)
    place = finish(root, "r1", "prepared", "k")
    assert stage_index.find(root, "k") == place
    (tmp_path / "runs/stages/k").write_bytes(data)
    assert stage_index.find(root, "k") == place
    assert (tmp_path / "runs/stages/k").read_text() == f"{place}\n"


@settings(max_examples=30)
@given(st.data())
def test_what_is_found_is_what_reading_every_manifest_finds(tmp_path_factory, data):
    """Whatever is finished, removed by hand or forgotten, in any order, with the index lost in between.

    Of a stage that two runs made, of which one was forgotten, the other may be passed over: it is then made again.
    """
    forgotten = set[str]()
    root = tmp_path_factory.mktemp("out")
    names = [f"r{n}" for n in range(3)]
    for _ in range(data.draw(st.integers(1, 12))):
        act = data.draw(st.sampled_from(["finish", "remove", "lose", "find", "forget"]))
        run_id, key = data.draw(st.sampled_from(names)), data.draw(st.sampled_from("ab"))
        place = root / "runs" / run_id / "prepared"
        if act == "finish" and not place.exists():
            finish(root, run_id, "prepared", key)
            forgotten.discard(key)
        elif act == "remove":
            shutil.rmtree(place, ignore_errors=True)
        elif act == "lose":
            shutil.rmtree(root / "runs/stages", ignore_errors=True)
            forgotten.clear()
        elif act == "forget" and place.exists():
            gone = manifest.read(str(place))["key"]
            shutil.rmtree(place)
            stage_index.forget(str(root), gone, f"runs/{run_id}/prepared")
            forgotten.add(gone)
            continue
        there = {
            name for name in names if (manifest.read(str(root / "runs" / name / "prepared")) or {}).get("key") == key
        }
        folder = stage_index.find(str(root), key)
        assert (folder is None) == (not there) or key in forgotten
        assert folder is None or folder.split("/")[1] in there


@pytest.mark.parametrize("index", ["none", "stale"])
def test_who_may_only_read_finds_what_is_there(tmp_path, monkeypatch, index):
    root = str(tmp_path)
    place = finish(root, "r1", "prepared", "k", note=False)
    if index == "stale":
        assert stage_index.find(root, "k") == place
        stage_index.note(root, "k", "runs/gone/prepared")

    def refuse(*args, **how):
        raise PermissionError("read only")

    monkeypatch.setattr(stage_index, "note", refuse)
    assert stage_index.find(root, "k") == place

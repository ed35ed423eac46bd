"""``topkin runs``, ``gc``, ``--older`` and ``--wait`` on the command line."""

import json
import os
import signal
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from topkin.artifacts import lock, manifest, runs, storage
from topkin.gates.judge import Judgement
from topkin.pipelines import publish
from topkin.pipelines import run as nightly
from topkin.pipelines.cli.app import main
from topkin.pipelines.engine import stages


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "topkin.toml").write_text('[run]\noutput = "out"\nkeep = 2\n[purchases]\npath = "sales.parquet"\n')
    monkeypatch.chdir(tmp_path)
    return tmp_path / "out"


def night(root: Path, day: int) -> runs.Run:
    run = runs.Run(str(root), f"2024-05-{day:02d}-n", datetime(2024, 5, day))
    storage.write_bytes(b"rows", f"{run.path}/prepared/rows.bin")
    manifest.seal(f"{run.path}/prepared", stage="prepare", key=f"k{day}", summary={"users": 1234, "items": day})
    run = runs.record_stage(run, "prepare", {"folder": f"runs/{run.run_id}/prepared"}, {})
    runs.publish_run(run, older=True)
    return run


def output_of(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    """What a command prints; where it fails, its message."""
    assert main(list(words)) == code
    out, err = capsys.readouterr()
    return err if code else out


def test_runs_are_listed_pinned_verified_and_deleted(root, capsys):
    for day in (1, 2, 3):
        night(root, day)
    assert json.loads(output_of(capsys, "runs", "pin", "2024-05-01", "--json")) == {"pinned": ["2024-05-01-n"]}
    lines = output_of(capsys, "runs").splitlines()
    assert lines[0].split() == ["run", "state", "made", "size", "users", "items", "lists", "figure"]
    assert [line.split()[:2] for line in lines[1:]] == [
        ["2024-05-03-n", "live"],
        ["2024-05-02-n", "kept"],
        ["2024-05-01-n", "pinned"],
    ]
    assert "1,234" in lines[1]
    assert [entry["items"] for entry in json.loads(output_of(capsys, "runs", "list", "--json"))] == [3, 2, 1]
    assert "2024-05-03-n: 1 files of 1 stages, 4 B, are as sealed" in output_of(capsys, "runs", "verify")
    Path(root, "runs/2024-05-02-n/prepared/rows.bin").write_bytes(b"rowS")
    assert "rows.bin changed after its stage finished" in output_of(
        capsys, "runs", "verify", "2024-05-02", "live", code=1
    )
    assert "is live: publish another one first" in output_of(capsys, "runs", "delete", "live", code=2)
    assert output_of(capsys, "runs", "unpin", "2024-05-01") == "unpinned 2024-05-01-n\n"
    assert "deleted: 1 runs, 1 folders" in output_of(capsys, "runs", "delete", "2024-05-01-n")
    assert runs.run_ids(str(root)) == ["2024-05-02-n", "2024-05-03-n"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["lst"], "topkin runs takes list, diff, verify, delete, pin, unpin, got lst"),
        (["diff", "live"], "topkin runs diff takes two runs, the earlier one first, got live"),
        (["delete"], "topkin runs delete takes one run or more, got none"),
        (["list", "live"], "topkin runs list takes no run, got live"),
        (["verify", "nope"], "there is no run nope in"),
    ],
)
def test_what_runs_does_not_know_is_said_with_what_it_takes(root, capsys, words, message):
    night(root, 1)
    assert message in output_of(capsys, "runs", *words, code=2)


def test_gc_tells_and_then_deletes(root, capsys):
    for day in (1, 2, 3, 4):
        night(root, day)
    dry = json.loads(output_of(capsys, "gc", "--dry-run", "--json"))
    assert sorted(dry["runs"]) == ["2024-05-01-n", "2024-05-02-n"]
    assert len(runs.run_ids(str(root))) == 4
    assert output_of(capsys, "gc").splitlines()[-1].startswith("deleted: 2 runs, 2 folders, ")
    assert runs.run_ids(str(root)) == ["2024-05-03-n", "2024-05-04-n"]
    assert output_of(capsys, "gc") == "deleted: 0 runs, 0 folders, 0 B\n"


@pytest.mark.parametrize("small_run", ["string"], indirect=True)
def test_two_runs_are_compared_in_words_with_nothing_that_moves_the_cursor(
    small_run: Any, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "topkin.toml").write_text('[run]\noutput = "out"\n[purchases]\npath = "sales.parquet"\n')
    counts = {"sources": {"purchases": {"rows": 40}}, "users": 20, "items": 4}
    storage.write_json(counts, f"{small_run.folder('prepare')}/statistics.json")
    place = "runs/r2/recommendations"
    folder = f"{small_run.root}/{place}"
    storage.copy_folder(small_run.folder("recommend"), folder, last="")
    for path in storage.parquet_files(folder):
        table = storage.read_parquet(path)
        if "item_id" in table.schema.names:
            items = ["\x1b[2J" if i == "a1" else i for i in table["item_id"].to_pylist()]
            table = table.set_column(table.schema.get_field_index("item_id"), table.schema.field("item_id"), [items])
            storage.write_parquet(table, path)
    for path in (small_run.folder("prepare"), small_run.folder("recommend"), small_run.folder("similar"), folder):
        manifest.seal(path, stage="made", key="k", summary={})
    run = runs.Run(small_run.root, "r2", small_run.as_of)
    run = runs.record_stage(run, "prepare", {"folder": "runs/r1/prepared"}, {})
    runs.record_stage(run, "recommend", {"folder": place}, {})
    text = output_of(capsys, "runs", "diff", "r1", "r2")
    assert "from r1 to r2" in text
    assert "entering   1 items:\n             \\x1b[2J    in " in text
    assert "a1  RED PAPER LANTERN  in " in text
    assert "user 101  kept 1 of 2, has 2" in text
    assert "\x1b" not in text
    told_json = json.loads(output_of(capsys, "runs", "diff", "r1", "r2", "--json"))
    assert told_json["leaving"]["items"] == 1
    assert "changed    0 lists (0.0%)" in output_of(capsys, "runs", "diff", "r1", "r1")
    assert "the page is two.html" in output_of(capsys, "runs", "diff", "r1", "r2", "--html", "two.html")
    page = (tmp_path / "two.html").read_text()
    assert "<h3><bdi>Customer 101</bdi></h3>" in page
    assert "\x1b" not in page
    assert "20 lists in both, 0 gone, 0 new." in page
    assert "got topkin runs list" in output_of(capsys, "runs", "list", "--html", "two.html", code=2)
    for place in (".", "two.html/x.html", "http://x/y.html"):
        assert "--html must be a file that can be" in output_of(
            capsys, "runs", "diff", "r1", "r2", "--html", place, code=2
        )


def at_work(root: Path) -> subprocess.Popen[str]:
    """A process of another command that works in the folder."""
    code = (
        "import sys, signal; from topkin.artifacts import lock\n"
        "with lock.hold(sys.argv[1], 'topkin train as of 2024-05-01'):\n    print('held', flush=True); signal.pause()"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(root)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


@pytest.mark.parametrize(
    "words",
    [["run"], ["prepare"], ["publish", "--run", "2024-05-01-n"], ["publish", "--rollback"], ["gc"], ["tune"]]
    + [["runs", *words] for words in (["delete", "2024-05-01"], ["pin", "live"], ["unpin", "live"])],
)
def test_while_another_works_there_a_command_says_who_and_changes_nothing(root, capsys, words):
    night(root, 1)
    night(root, 2)
    process = at_work(root)
    try:
        before = sorted(Path(root).rglob("*"))
        message = output_of(capsys, *words, code=5)
        assert f"topkin train as of 2024-05-01 by {lock._user()}, process {process.pid} on " in message
        assert "--wait SECONDS (run.wait)" in message
        assert sorted(Path(root).rglob("*")) == before
        assert output_of(capsys, "runs", "list")  # who only reads is not in the way
    finally:
        process.kill()
        process.communicate()
    assert json.loads(output_of(capsys, "gc", "--json"))["runs"] == []  # its process is gone


def test_with_wait_a_command_goes_on_when_the_other_ends(root, capsys):
    night(root, 1)
    process = at_work(root)
    code = f"import os, time; time.sleep(1); os.kill({process.pid}, {int(signal.SIGKILL)})"
    with subprocess.Popen([sys.executable, "-c", code]):
        assert output_of(capsys, "gc", "--wait", "500") == "deleted: 0 runs, 0 folders, 0 B\n"
    process.communicate()
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)


def test_a_version_that_gates_refused_is_listed_with_its_reason_after_the_next_one_too(root, capsys):
    run = night(root, 1)
    run = runs.Run(run.root, "2024-05-02-n", datetime(2024, 5, 2), run.folders)
    run = runs.record_stage(run, "prepare", {"folder": "runs/2024-05-01-n/prepared"}, {})
    runs.publish_run(run, {"reason": "a sale", "refused": ["rows: twice as many"], "at": "2024-05-02T04:00:00"})
    night(root, 3)
    lines = output_of(capsys, "runs").splitlines()
    assert lines[-1] == "2024-05-02-n was published though gates refused it: a sale"
    assert [e["anyway"] for e in json.loads(output_of(capsys, "runs", "--json"))] == [None, "a sale", None]


@pytest.fixture
def stand_ins(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run's stages and gate without their work."""

    def run_stages(settings: Any, *, as_of: datetime, **options: Any) -> runs.Run:
        run = runs.Run(settings.run.output, f"{as_of:%Y-%m-%d}-n", as_of)
        storage.make_folder(f"{run.path}/report")
        manifest.seal(f"{run.path}/report", stage="report", key="k", summary={})
        return runs.record_stage(run, "evaluate", {"folder": f"runs/{run.run_id}/report"}, {})

    def publish_run(run: runs.Run, settings: Any, *, anyway: str | None, older: bool) -> Judgement:
        runs.publish_run(run, older=older)
        return Judgement(gates=[], figures={}, live={}, common={})

    monkeypatch.setattr(stages, "run_stages", run_stages)
    monkeypatch.setattr(publish, "publish", publish_run)
    monkeypatch.setattr(nightly, "publish_run", publish_run)


def test_a_run_of_an_earlier_date_is_made_and_published_only_with_a_flag(stand_ins, root, capsys):
    assert output_of(capsys, "run", "--as-of", "2024-05-03").startswith("run 2024-05-03-n (published)\n")
    text = output_of(capsys, "run", "--as-of", "2024-05-02")
    assert text.startswith("run 2024-05-02-n\n")
    why = "2024-05-03-n is live, as of 2024-05-03, and 2024-05-02-n is as of 2024-05-02: topkin publish --run"
    assert f"not published: the live version never goes back to an earlier date unasked: {why}" in text
    answer = json.loads(output_of(capsys, "run", "--as-of", "2024-05-02", "--json"))
    assert answer["published"] is False
    assert why in answer["not_published"]
    assert "not_published" not in json.loads(output_of(capsys, "run", "--as-of", "2024-05-03", "--json"))
    assert "not published:" not in output_of(capsys, "run", "--as-of", "2024-05-02", "--no-publish")
    assert "--older publishes it all the same" in output_of(capsys, "publish", "--run", "2024-05-02-n", code=2)
    assert runs.pointer(str(root))["history"] == []
    assert output_of(capsys, "publish", "--run", "2024-05-02-n", "--older").startswith("run 2024-05-02-n (published)")
    assert output_of(capsys, "run", "--as-of", "2024-05-01", "--older").startswith("run 2024-05-01-n (published)")
    assert runs.pointer(str(root))["history"] == ["2024-05-03-n", "2024-05-02-n"]


def test_each_published_night_deletes_what_is_not_needed_any_more(stand_ins, root, capsys):
    for day in range(1, 6):
        assert main(["run", "--as-of", f"2024-05-{day:02d}"]) == 0
    assert runs.run_ids(str(root)) == ["2024-05-04-n", "2024-05-05-n"]
    assert "gc " in capsys.readouterr().err


def test_a_night_is_published_though_the_collection_fails(stand_ins, root, capsys, monkeypatch, caplog):
    def fail(*args: object) -> None:
        raise PermissionError("not yours")

    monkeypatch.setattr(nightly, "collect", fail)
    assert main(["run", "--as-of", "2024-05-03"]) == 0
    assert "old runs were not deleted (not yours): topkin gc tries again" in caplog.text
    assert runs.pointer(str(root))["run_id"] == "2024-05-03-n"

"""A shop whose lake and output are in an object store: every command, killed jobs, and how many requests it takes."""

import json
import os
import signal
import subprocess
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks.faults._processes import SETS, light_night, light_stage, publish_ungated
from topkin.artifacts import lock, runs, storage
from topkin.pipelines import run as nightly
from topkin.pipelines.cli.app import main
from topkin.pipelines.engine import registry
from topkin.synthetic.shop import Shop

if TYPE_CHECKING:
    from benchmarks.jobs._object_server import ObjectServer

FIRST = datetime(2024, 5, 1)


def topkin(capfd: pytest.CaptureFixture[str], *words: str, code: int = 0) -> Any:
    """What a command prints for machines."""
    capfd.readouterr()
    assert main([*words]) == code, capfd.readouterr()
    text = capfd.readouterr().out
    return json.loads(text) if text.startswith(("{", "[")) else text


def test_every_command_works_where_lake_and_output_are_in_an_object_store(
    bucket: str, object_server: "ObjectServer", tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shop, config = Shop(users=60, items=40, purchases=800, seed=5), str(tmp_path / "topkin.toml")
    shop.write(f"{bucket}/lake")
    result = topkin(capfd, "init", f"{bucket}/lake/purchases", "--items", f"{bucket}/lake/items.parquet", "--json",
                   "--output", str(tmp_path / "init.toml"))  # fmt: skip
    assert result["tables"][0]["path"] == f"{bucket}/lake/purchases"
    Path(config).write_text(shop.config_toml(f"{bucket}/lake", output=f"{bucket}/out"))
    storage.write_bytes(Path(config).read_bytes(), f"{bucket}/topkin.toml")
    sets = [word for pair in SETS for word in ("--set", pair)]
    shared = ["--config", f"{bucket}/topkin.toml", *sets]
    assert topkin(capfd, "check", *shared, "--json")["ok"]
    dates = [shop.as_of - timedelta(days=1), shop.as_of]
    collected, requests = [], []
    for date in (*dates, dates[1]):
        before = len(object_server.requests())
        words = ["--as-of", f"{date:%Y-%m-%d}", "--json", "--quiet"]
        collected.append(topkin(capfd, "run", *shared, *words))
        requests.append(len(object_server.requests()) - before)
    assert [run["published"] for run in collected] == [True] * 3
    what = ("run_id", "folders", "output")  # not how long it took
    assert [collected[1][name] for name in what] == [collected[2][name] for name in what]
    assert {name for name, stage in collected[2]["stages"].items() if not stage["reused"]} == {"publish"}
    assert requests[0] <= 300, requests
    assert requests[2] <= 60, requests
    run = runs.read_run(f"{bucket}/out", collected[1]["run_id"])
    lists = storage.read_parts(storage.join(run.folder("recommend"), "recommendations"))
    assert len(lists) > 0
    user = str(lists["user_id"][0])
    assert "recommendations" in str(topkin(capfd, "show", user, *shared, "--json"))
    counted = topkin(capfd, "query", "SELECT count(*) AS n FROM recommendations", *shared, "--json")
    assert counted == [{"n": len(lists)}]
    assert [r["state"] for r in topkin(capfd, "runs", *shared, "--json")].count("live") == 1
    assert topkin(capfd, "publish", "--rollback", *shared, "--json")["run_id"] == collected[0]["run_id"]
    topkin(capfd, "gc", *shared, "--json")
    local = [*shared, "--set", f"run.output={tmp_path / 'out'}", "--as-of", f"{dates[1]:%Y-%m-%d}"]
    topkin(capfd, "run", *local, "--json", "--quiet", "--no-publish")
    (name,) = runs.run_ids(str(tmp_path / "out"))
    here = runs.read_run(str(tmp_path / "out"), name)
    for stage in ("prepare", "embed", "recommend", "similar", "evaluate"):
        for file in storage.files(here.folder(stage)):
            if file.endswith(".parquet"):
                there = storage.read_bytes(storage.join(run.folder(stage), file))
                assert there == storage.read_bytes(storage.join(here.folder(stage), file)), file


KILLED = """
import os, sys
from datetime import datetime
from benchmarks.faults import _processes as p
from topkin.artifacts import storage
from topkin.pipelines import run as nightly
from topkin.pipelines.engine import registry
from dataclasses import replace

def stage(name, kind="purchases"):
    made = p.light_stage(name, kind)
    def work(job):
        result = made.work(job)
        if name == "similar":
            os.kill(os.getpid(), 9)
        return result
    return replace(made, work=work)

registry.stage, nightly.publish_run = stage, p.publish_ungated
p.light_night(sys.argv[1], 3)(datetime(2024, 5, 1), 0.0)
"""

PUBLISHES = """
import sys, time
from benchmarks.faults.publishers import _publish_at
from topkin.artifacts import storage
storage.files(sys.argv[2])
print("ready", flush=True)
_publish_at(float(sys.stdin.readline()), sys.argv[1], sys.argv[3])
"""


def test_a_killed_night_goes_on_after_the_last_sealed_stage_and_what_it_left_is_collected(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = f"{bucket}/out"
    killed = subprocess.run([sys.executable, "-c", KILLED, out], check=False, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    monkeypatch.setattr(registry, "stage", light_stage)
    monkeypatch.setattr(nightly, "publish_run", publish_ungated)
    (name,) = runs.run_ids(out)
    before = runs.read_run(out, name)
    assert set(before.folders) == set(registry.ORDER[: registry.ORDER.index("similar")])
    left = set(storage.folders(before.path)) - {f.rpartition("/")[2] for f in before.folders.values()}
    assert len(left) == 2  # the attempt and its scratch
    light_night(out, 3)(FIRST, 0.0)
    after = runs.published(out)
    assert after is not None
    assert {stage: after.folders[stage] for stage in before.folders} == dict(before.folders)
    assert len(after.folders) == len(registry.ORDER)
    folders = {f.rpartition("/")[2] for f in after.folders.values()}
    assert len(set(storage.folders(after.path)) - folders) == 1
    monkeypatch.setattr(lock, "EXPIRY", -10.0)
    from topkin.pipelines.upkeep.collect import collect

    with lock.hold(out, "gc"):
        collect(out, 3)
    assert set(storage.folders(after.path)) == folders
    assert after.is_whole()


def test_of_publishers_at_once_each_is_in_the_history_once(bucket: str) -> None:
    root, names = f"{bucket}/out", [f"2024-05-{day:02d}-r" for day in range(1, 5)]
    for day, name in enumerate(names, 1):
        run = runs.Run(root, name, datetime(2024, 5, day))
        runs.record_stage(run, "prepare", {"folder": f"runs/{name}/prepared"}, {})
    runs.publish_run(runs.read_run(root, names[0]))
    command = [sys.executable, "-c", PUBLISHES, root, bucket]
    pipe = subprocess.PIPE
    started = [subprocess.Popen([*command, name], stdin=pipe, stdout=pipe, text=True) for name in names[1:]]
    for process in started:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    go = f"{time.time() + 0.2}\n"
    for process in started:
        process.communicate(go)
        assert process.returncode == 0
    current = runs.pointer(root) or {}
    assert sorted([*current["history"], current["run_id"]]) == names
    assert current["version"] == len(names)


@pytest.mark.slow
def test_a_training_killed_in_the_middle_goes_on_from_its_checkpoint(bucket: str, tmp_path: Path) -> None:
    shop, config = Shop(users=150, items=80, purchases=3_000, seed=5), tmp_path / "topkin.toml"
    shop.write(f"{bucket}/lake")
    config.write_text(shop.config_toml(f"{bucket}/lake", output=f"{bucket}/out"))
    sets = [s for s in SETS if not s.startswith("train.epochs")]
    words = [word for pair in (*sets, "train.epochs=40", "train.patience=40") for word in ("--set", pair)]
    words += ["--config", str(config), "--as-of", f"{shop.as_of:%Y-%m-%d}"]
    command = [sys.executable, "-m", "topkin", "run", *words]
    with subprocess.Popen([*command, "--json"], stdout=subprocess.DEVNULL) as process:
        until = time.monotonic() + 300
        while not any(name.endswith("checkpoint.npz") for name in storage.files(f"{bucket}/out", hidden=True)):
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.2)
        process.kill()
    done = subprocess.run([*command, "--publish-anyway", "a test"], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    run = runs.published(f"{bucket}/out")
    assert run is not None
    logs = storage.files(storage.join(run.folder("train"), "logs"))
    assert any(os.path.basename(name).startswith("events.out") for name in logs)
    assert not any(name.endswith("checkpoint.npz") for name in storage.files(f"{bucket}/out", hidden=True))

"""The command: which run it shows, what it says, and how it ends."""

import json
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from topkin.artifacts import manifest, runs, storage
from topkin.pipelines.cli.app import main

pytestmark = pytest.mark.parametrize("small_run", ["string"], indirect=True)
PAGE = "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta content=\"default-src 'none'; style-src 'unsafe-inline'\">"


@pytest.fixture
def with_page(small_run: Any) -> Any:
    """The small run with a page."""
    folder = f"{small_run.path}/report"
    storage.write_bytes(PAGE.encode(), f"{folder}/report.html")
    manifest.seal(folder, stage="report", key="k", summary={})
    return runs.record_stage(small_run, "report", {"key": "report", "folder": "runs/r1/report"}, {})


def test_a_run_is_shown_until_ctrl_c_which_is_said(with_page: Any, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "topkin", "serve", with_page.path, "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    assert process.stdout is not None
    line = process.stdout.readline()
    match = re.fullmatch(r"run r1 is shown until Ctrl-C at (http://127\.0\.0\.1:\d+/)\n", line)
    assert match, line + process.communicate()[1]
    with urllib.request.urlopen(match[1]) as answer:
        page = answer.read().decode()
    assert page.startswith("<!doctype html>\n<html lang=\"en\" data-api='/api/'>")
    assert "connect-src 'self'" in page
    with urllib.request.urlopen(f"{match[1]}api/item?id=a1") as answer:
        assert json.load(answer)["title"] == "RED PAPER LANTERN"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode == 130
    assert "stopped by Ctrl-C" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "there is no run nowhere in"),
        (["live", "--port", "70000"], "of at most 65535"),
        (["{path}/prepared"], "must be a folder with a published run"),
    ],
)
def test_what_cannot_be_shown_is_told(
    words: list[str], message: str, with_page: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "topkin.toml"
    config.write_text('[run]\noutput = "out"\n[purchases]\npath = "sales.parquet"\n')
    assert main(["serve", *(w.format(path=with_page.path) for w in words), f"--config={config}"]) in (1, 2)
    assert message in " ".join(capsys.readouterr().err.replace("│", " ").split())


def test_an_older_page_and_a_run_without_one_are_told(small_run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", small_run.path]) == 1
    assert "run topkin report first" in capsys.readouterr().err
    storage.write_bytes(b"<html lang='en'>", f"{small_run.path}/report/report.html")
    manifest.seal(f"{small_run.path}/report", stage="report", key="k", summary={})
    run = runs.record_stage(small_run, "report", {"key": "report", "folder": "runs/r1/report"}, {})
    assert main(["serve", run.path]) == 1
    assert "written by an earlier topkin" in capsys.readouterr().err

"""The line for a chat channel and its webhook, by a real server: a failure is a warning, the address a secret."""

import json
import logging
import threading
from collections.abc import Iterator
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from topkin.artifacts import runs, storage
from topkin.config.load import load_settings
from topkin.errors import ConfigError, QualityGateError
from topkin.pipelines import run as nightly
from topkin.pipelines.cli.app import main
from topkin.pipelines.cli.terminal import chat
from topkin.pipelines.engine.stages import Event

MESSAGE = chat.Message("topkin: well", "r1", "2024-05-01T00:00:00", True, 0)


class Hook:
    """A server that keeps what is posted."""

    def __init__(self) -> None:
        self.posted: list[dict[str, Any]] = []
        self.status, self.go = 200, threading.Event()
        self.go.set()
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                hook.go.wait(30)
                hook.posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(hook.status)
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/services/T0/sEcReT"


@pytest.fixture
def hook() -> Iterator[Hook]:
    hook_server = Hook()
    thread = threading.Thread(target=hook_server.server.serve_forever, args=(0.05,))
    thread.start()
    yield hook_server
    hook_server.server.shutdown()
    hook_server.server.server_close()
    thread.join()


def test_the_line_says_what_was_made_and_how_good_it_is() -> None:
    run = runs.Run("out", "2024-05-01-a", datetime(2024, 5, 1))
    summaries = {
        "prepare": {"items": 998, "sources": {"purchases": {"rejected": {"void": 9, "returned": 3}}}},
        "recommend": {"users_with_list": 2000},
        "evaluate": {"heldout_users": 12, "novel_ndcg@10": 0.24181},
        "publish": {"gates passed": 11, "gates refused": 0},
    }
    assert chat.of_run(run, summaries, 91.0, published=True).text == (
        "topkin: 2024-05-01-a published in 91.0 s; 2,000 users with a list; 998 items; 12 rows rejected; "
        "novel ndcg@10 0.2418; gates: 11 passed, 0 refused"
    )
    assert chat.of_run(run, {}, 1.0, published=False, why="it is older").text == (
        "topkin: 2024-05-01-a made, not published (it is older) in 1.0 s"
    )
    failed = chat.of_failure(
        "2024-05-01T00:00:00", QualityGateError("refused\nby s3://key:pass@bucket " + "x" * 900), 4
    )
    assert failed.text.startswith("topkin: the run as of 2024-05-01 failed with code 4: refused by s3://***@bucket x")
    assert len(failed.text) == chat.LONGEST
    assert "\n" not in failed.text


def test_the_webhook_gets_it_as_json(hook: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    chat.send(hook.url, MESSAGE)
    monkeypatch.setenv("SHOP_HOOK", hook.url)
    chat.send("SHOP_HOOK", MESSAGE)
    wanted = {"text": "topkin: well", "run_id": "r1", "as_of": "2024-05-01T00:00:00", "published": True, "exit_code": 0}
    assert hook.posted == [wanted, wanted]
    chat.send(None, MESSAGE)


def test_a_failure_is_a_warning_without_the_address(hook: Hook, caplog: pytest.LogCaptureFixture) -> None:
    hook.status = 500
    chat.send(hook.url, MESSAGE)
    assert caplog.messages == ["the webhook at 127.0.0.1 was not told: it answered 500; the run stands as it is"]
    caplog.clear()
    hook.go.clear()
    chat.send(hook.url, MESSAGE, limit=0.1)
    assert caplog.messages == [
        "the webhook at 127.0.0.1 was not told: no answer within 0.1 seconds; the run stands as it is"
    ]
    hook.go.set()  # it was not waited for
    for address in (
        "http://127.0.0.1:1/sEcReT",
        "http://no.such.host.invalid/sEcReT",
        "http://[sEcReT",
        "ftp://x/sEcReT",
    ):
        chat.send(address, MESSAGE, limit=5)
    chat.send("NOT_SET_ANYWHERE", MESSAGE)
    assert len(caplog.messages) == 6
    assert "NOT_SET_ANYWHERE, which is not set" in caplog.messages[-1]
    assert "sEcReT" not in caplog.text


@pytest.fixture
def config(tmp_path: Path, hook: Hook, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "topkin.toml"
    path.write_text(f'[run]\noutput = "out"\nwebhook = "{hook.url}"\n[purchases]\npath = "x.parquet"\n')
    monkeypatch.chdir(tmp_path)
    return path


def test_a_run_tells_its_end_and_its_failure(
    config: Path, hook: Hook, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run_all(settings: Any, *, as_of: datetime, tell: Any, **options: Any) -> runs.Run:
        tell(Event("recommend", "finished", 1.0, {"users_with_list": 7}))
        return runs.Run(settings.run.output, "r1", as_of)

    monkeypatch.setattr(nightly, "run_all", run_all)
    assert main(["run", "--as-of", "2024-05-01"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("topkin: r1 made, not published in ")
    assert main(["run", "--as-of", "2024-05-01", "--json", "--log-format", "json"]) == 0
    out, err = capsys.readouterr()
    printed = json.loads(out)
    assert printed["line"].endswith("; 7 users with a list")
    assert printed["stages"] == {"recommend": {"seconds": 1.0, "reused": False, "users_with_list": 7}}
    events = [json.loads(line) for line in err.splitlines()]
    assert [event["event"] for event in events] == ["stage_finished", "run_finished"]
    assert events[-1]["text"] == printed["line"]

    def fail(*args: Any, **options: Any) -> None:
        raise QualityGateError("rows fell by half")

    monkeypatch.setattr(nightly, "run_all", fail)
    assert main(["run", "--as-of", "2024-05-01", "--log-format", "json"]) == 4
    assert json.loads(capsys.readouterr().err)["error"]["exit_code"] == 4
    assert [(posted["exit_code"], posted["run_id"]) for posted in hook.posted] == [(0, "r1"), (0, "r1"), (4, None)]
    assert hook.posted[-1]["text"].endswith("failed with code 4: rows fell by half")
    logging.getLogger().handlers[0].setFormatter(None) if logging.getLogger().handlers else None


def test_the_address_is_neither_stored_nor_shown(config: Path) -> None:
    settings = load_settings(config)
    assert settings.run.webhook is not None
    assert "sEcReT" in settings.run.webhook.get_secret_value()
    run = runs.record_stage(
        runs.Run(settings.run.output, "r1", datetime(2024, 5, 1)),
        "prepare",
        {"key": "k", "folder": "runs/r1/prepared"},
        settings.model_dump(mode="json"),
    )
    stored = storage.read_bytes(storage.join(run.path, "run.json")).decode()
    assert "sEcReT" not in stored + repr(settings) + str(settings.model_dump())
    assert type(settings).model_validate(json.loads(stored)["settings"]).run.webhook is not None
    with pytest.raises(ConfigError, match="what came is not shown") as e:
        load_settings(config, ['run.webhook="hooks.example/sEcReT"'])
    assert "sEcReT" not in str(e.value)

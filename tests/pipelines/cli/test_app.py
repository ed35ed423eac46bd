"""The command line: light to start, its options taken to the engine, its answers and codes."""

import io
import json
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import typer

from topkin.artifacts import manifest, runs, storage
from topkin.errors import ConfigError, InputError, QualityGateError
from topkin.gates.gate import not_asked
from topkin.gates.judge import Judgement
from topkin.pipelines import run as nightly
from topkin.pipelines.cli import app
from topkin.pipelines.cli.app import main
from topkin.pipelines.engine import stages
from topkin.pipelines.engine.job import run_pipeline

HEAVY = ("apache_beam", "tensorflow", "keras", "pyarrow", "pydantic", "numpy", "duckdb", "nmslib", "scipy")


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "topkin.toml"
    path.write_text('[run]\noutput = "out"\n[purchases]\npath = "sales.parquet"\n')
    monkeypatch.chdir(tmp_path)
    return path


@pytest.fixture
def asked(config: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any, dict[str, Any]]]:
    """What the engine was asked, in place of doing it."""
    calls: list[tuple[str, Any, dict[str, Any]]] = []

    def run_stages(settings: Any, *, only: str, tell: Any, **options: Any) -> runs.Run:
        calls.append((only, settings, options))
        tell(stages.Event(only, "started"))
        tell(stages.Event(only, "finished", 1.25, {"rows": 1234, "loss": 0.5, "name": "x", "by": {}}))
        return runs.Run(settings.run.output, "r1", options["as_of"], {only: f"{settings.run.output}/runs/r1/{only}"})

    def run_all(settings: Any, *, publish: bool, tell: Any, **options: Any) -> runs.Run:
        calls.append(("all", settings, options | {"publish": publish}))
        return runs.Run(settings.run.output, "r1", options["as_of"], {"evaluate": "there"})

    monkeypatch.setattr(stages, "run_stages", run_stages)
    monkeypatch.setattr(nightly, "run_all", run_all)
    return calls


@pytest.mark.parametrize("args", [["--help"], ["run", "--help"], ["--version"], ["nonsense"], ["train", "--nonsense"]])
def test_help_and_wrong_usage_import_nothing_heavy(args: list[str]) -> None:
    script = (
        "import sys, json; from topkin.pipelines.cli.app import main\n"
        f"code = main({args!r})\n"
        "print('\\n' + json.dumps([code, sorted({m.partition('.')[0] for m in sys.modules})]))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    code, modules = json.loads(done.stdout.splitlines()[-1])
    assert code == (2 if "nonsense" in args[-1] else 0)
    typers = {"pydantic"} if args[0] in (*stages.ORDER, "run", "nonsense") else set()  # typer reads options with it
    assert not set(HEAVY) & set(modules) - typers


def commands_of_app() -> dict[str, Any]:
    group = typer.main.get_command(app.app)
    return dict(group.commands)  # type: ignore[attr-defined]


def test_every_job_is_a_command() -> None:
    wanted = {
        "demo",
        "init",
        "check",
        *stages.ORDER,
        "publish",
        "run",
        "runs",
        "gc",
        "forget",
        "serve",
        "match",
        "export",
        "show",
        "query",
        "explain",
        "backtest",
        "tune",
        "doctor",
        "benchmark",
    }
    assert set(commands_of_app()) == wanted


def test_every_command_has_a_meaning_and_an_example_that_begins_with_it(capsys: pytest.CaptureFixture[str]) -> None:
    for name, command in commands_of_app().items():
        assert command.help.endswith(".")
        assert command.epilog.startswith(f"Example: topkin {name}")
        assert main([name, "--help"]) == 0
        assert f"topkin {name}" in capsys.readouterr().out


def texts(command: Any) -> list[str]:
    """Every text of a command's help: its own, and those of its arguments and options."""
    return [command.help, command.epilog or "", *(p.help or "" for p in command.params)]


@pytest.mark.parametrize("columns", ["80", "200"])
def test_no_word_of_the_help_is_lost(
    columns: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert main(["--help"]) == 0
    every = capsys.readouterr().out.split()
    for name, command in commands_of_app().items():
        assert " ".join(command.help.split()) in " ".join(every)
        assert main([name, "--help"]) == 0
        shown = " ".join(capsys.readouterr().out.split())
        for text in texts(command):
            assert " ".join(text.split()) in shown, name
    assert "[train]" in every
    assert any("[train]" in text for command in commands_of_app().values() for text in texts(command))


def test_the_codes_are_in_the_help(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    main(["--help"])
    out = " ".join(capsys.readouterr().out.split())
    assert "0 done; 1 anything not listed here; 2 wrong usage or configuration; 3 bad input; 4 made" in out


def test_python_m_topkin_is_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "topkin", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("topkin 0.")


@pytest.mark.parametrize("stage", stages.ORDER)
def test_a_stage_gets_every_option(asked: list[Any], stage: str, tmp_path: Path) -> None:
    args = ["--as-of", "2011-11-09", "--set", "train.epochs=3", "--set", "train.dim=8", "--force"]
    assert main([stage, *args, "--", "--direct_num_workers=2", "--streaming", "false"]) == 0
    [(only, settings, options)] = asked
    assert only == stage
    assert (settings.train.epochs, settings.train.dim) == (3, 8)
    assert settings.run.output == str(tmp_path / "out")
    assert options == {
        "as_of": datetime(2011, 11, 9),
        "force": True,
        "beam": ["--direct_num_workers=2", "--streaming", "false"],
        "wait": True,
    }


def test_today_is_the_default_date(asked: list[Any]) -> None:
    assert main(["run"]) == 0
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
    assert asked[0][2]["as_of"] == today


def test_a_wrong_date_is_answered_with_its_form(asked: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--as-of", "9.11.2011"]) == 2
    assert "--as-of must be a date such as 2011-11-09 or a time" in capsys.readouterr().err
    assert not asked


def test_publishing_can_be_left_out(asked: list[Any]) -> None:
    assert main(["run", "--no-publish"]) == 0
    assert asked[0][2]["publish"] is False


def test_a_finished_stage_is_told_on_stderr_and_the_result_on_stdout(
    asked: list[Any], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["train", "--as-of", "2011-11-09"]) == 0
    printed = capsys.readouterr()
    assert printed.err.splitlines() == ["train         begins", "train          1.2 s   rows 1,234, loss 0.5"]
    assert printed.out == f"run r1\n  train      {tmp_path}/out/runs/r1/train\n"


@pytest.mark.parametrize("flag", ["--quiet", "--json"])
def test_quiet_and_json_leave_stderr_empty(asked: list[Any], flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", flag]) == 0
    assert capsys.readouterr().err == ""


def test_json_is_one_object(asked: list[Any], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["run", "--as-of", "2011-11-09", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed.pop("line").startswith("topkin: r1 made, not published in ")
    assert printed == {
        "run_id": "r1",
        "as_of": "2011-11-09T00:00:00",
        "output": str(tmp_path / "out"),
        "published": False,
        "folders": {"evaluate": "there"},
        "stages": {},
    }


def test_a_stray_word_is_not_taken_for_a_beam_flag(asked: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "epochs=3"]) == 2
    assert "unexpected argument 'epochs=3'; flags for Beam go after --" in capsys.readouterr().err


@pytest.mark.parametrize(("error", "code"), [(InputError("no rows"), 3), (QualityGateError("refused"), 4)])
def test_an_error_of_the_engine_is_a_message_and_a_code(
    asked: list[Any], error: Exception, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*args: Any, **options: Any) -> None:
        raise error

    monkeypatch.setattr(nightly, "run_all", fail)
    assert main(["run"]) == code
    assert capsys.readouterr().err == f"topkin: {error}\n"
    assert main(["run", "--json"]) == code
    assert json.loads(capsys.readouterr().err)["error"]["exit_code"] == code


def test_a_missing_configuration_is_answered_with_the_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["run"]) == 2
    assert (
        "there is no configuration file topkin.toml: topkin init PURCHASES.parquet writes one"
        in capsys.readouterr().err
    )


def finished(root: Path, run_id: str) -> runs.Run:
    entry = {"key": "k", "folder": f"runs/{run_id}/prepared"}
    storage.write_bytes(b"rows", str(root / f"runs/{run_id}/prepared/rows.bin"))
    manifest.seal(str(root / f"runs/{run_id}/prepared"), stage="prepare", key="k", summary={})
    return runs.record_stage(runs.Run(str(root), run_id, datetime(2011, 11, 9)), "prepare", entry, {})


def test_publish_finds_the_run_of_the_settings_and_the_date(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from topkin.pipelines import publish

    monkeypatch.setattr(stages, "keys", lambda settings, as_of: {"prepare": settings.run.seed})
    nothing = Judgement(gates=[not_asked("rows", "max_drop", "nothing is live")], figures={}, live={}, common={})
    monkeypatch.setattr(publish, "publish", lambda run, settings, anyway, older: runs.publish_run(run) and nothing)
    name = runs.run_name(datetime(2011, 11, 9), {"prepare": 42})
    for run_id in (name, f"{name}+2", f"{name}+10", "2011-11-09-other"):
        finished(tmp_path / "out", run_id)
    assert main(["publish", "--as-of", "2011-11-09"]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith(f"run {name}+10 (published)\n")
    assert printed.err == "gates not asked, nothing is live: rows\n"
    assert main(["publish", "--run", name, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["gates"] == {"passed": 0, "refused": 0, "not asked": 1}
    assert main(["publish", "--as-of", "2011-11-10"]) == 2
    assert "there is no run of this configuration as of 2011-11-10" in capsys.readouterr().err


def test_rollback_moves_the_pointer_back_past_runs_that_are_gone(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "out"
    for name in ("r1", "r2", "r3"):
        runs.publish_run(finished(root, name))
    shutil.rmtree(root / "runs/r2")
    assert main(["publish", "--rollback"]) == 0
    assert capsys.readouterr().out.startswith("passed over, for they are gone: r2\nrun r1 (published)\n")
    assert storage.read_json(str(root / "current.json"))["run_id"] == "r1"
    assert main(["publish", "--rollback"]) == 1
    assert "no earlier published run" in capsys.readouterr().err
    assert main(["publish", "--rollback", "--run", "r2"]) == 2
    assert main(["publish", "--rollback", "--publish-anyway", "why"]) == 2


def test_a_reason_to_publish_anyway_is_handed_on(asked: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--publish-anyway", "spring range only"]) == 0
    assert asked[-1][2]["anyway"] == "spring range only"
    assert main(["run", "--publish-anyway", "why", "--no-publish"]) == 2
    assert "--publish-anyway and --no-publish exclude each other" in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["--runner=Nope", "--direct_num_workers=x"])
def test_a_wrong_flag_for_beam_is_a_wrong_usage(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError, match=f"flags for Beam, after --: .*got {flag}"):
        run_pipeline(lambda pipeline: None, [flag])
    assert capsys.readouterr().err == ""


def test_a_terminal_that_cannot_show_a_character_shows_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", terminal)
    assert main(["--version"]) == 0
    print("\u00e9\U0001f600", file=terminal, flush=True)
    assert terminal.buffer.getvalue().endswith(b"\\xe9\\U0001f600\n")  # type: ignore[attr-defined]


def test_a_word_that_is_no_text_is_told_with_its_bytes(capsys):
    assert main(["show", os.fsdecode(b"J\xfcrgen")]) == 2
    assert capsys.readouterr().err.startswith(r"topkin: b'J\xfcrgen' must be text in UTF-8: set the terminal")


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (
            ["tune", "--trials", "many"],
            "--trials takes a whole number, got 'many'; it means: How many settings are tried",
        ),
        (["tune", "--trials=1.5"], "--trials takes a whole number, got '1.5'; it means: "),
        (["demo", "--users", "1"], "--users takes a whole number of at least 2, got '1'; it means: Customers of the"),
        (
            ["run", "--wait", "soon", "--", "--wait=3"],
            "--wait takes a number of at least 0, got 'soon'; it means: Wait",
        ),
        (["match", "q", "--threshold", "3"], "--threshold takes a number of at least -1 and of at most 1, got '3'; "),
        (
            ["serve", "--port", "x"],
            "--port takes a whole number of at least 0 and of at most 65535, got 'x'; it means: ",
        ),
        (["run", "--log-format", "xml"], "--log-format takes one of text, json, got 'xml'; it means: text, or json"),
    ],
)
def test_a_value_of_a_wrong_kind_is_answered_with_the_rule_and_the_meaning(
    words: list[str], answer: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    assert capsys.readouterr().err.startswith(f"topkin: {answer}")
    if words[0] == "serve":
        return  # it prints nothing for machines
    assert main([*words[:1], "--json", *words[1:]]) == 2
    assert json.loads(capsys.readouterr().err)["error"]["message"].startswith(answer)

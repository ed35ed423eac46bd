"""A failure is told in one message with its code, wherever in a pipeline it began."""

import json
import shlex
import subprocess
import sys
from typing import Any

import pytest

from topkin.errors import ConfigError, InputError, QualityGateError, TopkinError
from topkin.pipelines.cli import errors

WORKER = """Traceback (most recent call last):
  File "topkin/pipelines/prepare.py", line 8, in process
    raise InputError("sales.parquet is cut off\\nwrite it again") from e
topkin.errors.InputError: sales.parquet is cut off
write it again

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "topkin/pipelines/prepare.py", line 8, in process
topkin.errors.InputError: sales.parquet is cut off
write it again [while running 'Read/ParDo(Read)']

"""


def caused(outer: BaseException, inner: BaseException) -> BaseException:
    try:
        try:
            raise inner
        except BaseException as e:
            raise outer from e
    except BaseException as caught:  # noqa: BLE001 - the fixture is the exception
        return caught


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (InputError("no rows"), InputError, "no rows"),
        (InputError("no rows [while running 'Read']"), InputError, "no rows"),
        (caused(RuntimeError("worker"), QualityGateError("refused")), QualityGateError, "refused"),
        (RuntimeError(WORKER), InputError, "sales.parquet is cut off\nwrite it again"),
        (caused(ValueError("x"), RuntimeError(WORKER)), InputError, "sales.parquet is cut off\nwrite it again"),
    ],
)
def test_our_own_error_is_found_under_what_wraps_it(error: BaseException, kind: type, message: str) -> None:
    explained = errors.explained(error)
    assert type(explained) is kind
    assert str(explained) == message


@pytest.mark.parametrize("error", [ValueError("x"), RuntimeError("topkin.errors.Exit: x"), KeyError("topkin.errors")])
def test_other_errors_are_not_taken_for_ours(error: BaseException) -> None:
    assert errors.explained(error) is None


@pytest.mark.parametrize(
    ("error", "code"), [(ConfigError("c"), 2), (InputError("i"), 3), (QualityGateError("q"), 4), (TopkinError("t"), 1)]
)
def test_each_error_has_its_code_and_no_traceback(
    error: TopkinError, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left, errors.exit_on_error():
        raise error
    assert left.value.code == code
    assert capsys.readouterr().err == f"topkin: {error}\n"


def test_json_holds_type_message_and_code(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit), errors.exit_on_error(as_json=True):
        raise InputError("no rows")
    printed = json.loads(capsys.readouterr().err)
    assert printed == {"error": {"type": "InputError", "message": "no rows", "exit_code": 3}}


def test_an_unexpected_error_says_how_to_see_more(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(errors.TRACEBACK, raising=False)
    assert errors.exit_code(ZeroDivisionError("division by zero")) == 1
    err = capsys.readouterr().err
    assert err.startswith("topkin: ZeroDivisionError: division by zero\n")
    assert "TOPKIN_TRACEBACK=1 shows where" in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (PermissionError(13, "Failed to open local file 'out/current.json'. Detail: [errno 13]"), "out/current.json"),
        (PermissionError(13, "Permission denied", "out/current.json"), "got Permission denied out/current.json: ask"),
    ],
)
def test_a_file_without_the_right_to_it_is_told_with_the_cure(
    error: PermissionError, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert errors.exit_code(error) == 2
    message = capsys.readouterr().err
    assert words in message
    assert "not a failure that topkin knows" not in message


def test_the_traceback_comes_when_asked_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(errors.TRACEBACK, "1")
    errors.exit_code(caused(ValueError("outer"), KeyError("inner")))
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert "KeyError: 'inner'" in err


def test_of_a_workers_traceback_the_last_line_is_told() -> None:
    text = "Traceback (most recent call last):\n  File x\nValueError: bad row [while running 'X']\n\n"
    assert errors.one_line(RuntimeError(text)) == "ValueError: bad row [while running 'X']"


@pytest.mark.parametrize(
    "error",
    [
        KeyboardInterrupt(),
        RuntimeError("KeyboardInterrupt [while running 'WriteRejects/Sort']"),
        RuntimeError("Traceback (most recent call last):\n  File x\nKeyboardInterrupt\n"),
        caused(RuntimeError("worker"), KeyboardInterrupt()),
    ],
)
def test_an_interrupt_is_quiet_wherever_it_came(error: BaseException, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left, errors.exit_on_error():
        raise error
    assert left.value.code == 130
    assert capsys.readouterr().err == ""


def test_a_reader_that_leaves_early_is_no_failure() -> None:
    script = (
        "from topkin.pipelines.cli import errors\nwith errors.exit_on_error():\n    for n in range(100_000): print(n)\n"
    )
    command = f"{shlex.quote(sys.executable)} -c {shlex.quote(script)} | head -n 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "0\n", "")


def test_an_error_raised_in_a_worker_reaches_the_user_whole(capsys: pytest.CaptureFixture[str]) -> None:
    import apache_beam as beam

    from topkin.pipelines.engine.job import run_pipeline

    def fail(_: Any) -> Any:
        raise InputError("sales.parquet is cut off\nwrite it again")

    def build(pipeline: Any) -> None:
        pipeline | beam.Create([1]) | "Read it" >> beam.Map(fail)

    with pytest.raises(SystemExit) as left, errors.exit_on_error():
        run_pipeline(build, [])
    assert left.value.code == 3
    assert capsys.readouterr().err.endswith("topkin: sales.parquet is cut off\nwrite it again\n")


def test_a_mode_that_loses_data_is_refused() -> None:
    from topkin.pipelines.engine.job import beam_options

    with pytest.raises(ConfigError, match=r"multi_threading loses data.*take multi_processing; got --direct"):
        beam_options(["--direct_running_mode=multi_threading"])

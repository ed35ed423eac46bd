"""What a shell completes, by the protocol that typer's scripts speak: words in the environment, answers on stdout."""

import subprocess
import sys
from pathlib import Path

import pytest

from topkin.pipelines.cli.app import main


def completed(words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What bash is given for the last of the words."""
    monkeypatch.setenv("_TOPKIN_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", " ".join(words))
    monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
    assert main([]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out.split()


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("topkin.toml", "other.toml"):
        Path(name).write_text(f'[run]\noutput = "out-{name[:5]}"\n[purchases]\npath = "x"\n')
    for folder in ("out-topki/runs/2024-05-01-a", "out-topki/runs/2024-05-02-b", "out-other/runs/r9"):
        Path(folder).mkdir(parents=True)
        Path(folder, "run.json").write_text("{}")
    Path("out-topki/runs/unfinished").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("words", "answers"),
    [
        (["topkin", "rec"], ["recommend"]),
        (["topkin", "run"], ["run", "runs"]),
        (["topkin", "tune", "--tri"], ["--trials"]),
        (["topkin", "show", "--run", ""], ["2024-05-02-b", "2024-05-01-a"]),
        (["topkin", "query", "x", "--run", "2024-05-01"], ["2024-05-01-a"]),
        (["topkin", "publish", "-c", "other.toml", "--run", ""], ["r9"]),
        (["topkin", "show", "-c", "none.toml", "--run", ""], []),
        (["topkin", "runs", "ver"], ["verify"]),
        (["topkin", "runs", "diff", "2024-05-01-a", ""], ["live", "2024-05-02-b", "2024-05-01-a"]),
        (["topkin", "runs", "verify", "li"], ["live"]),
        (["topkin", "serve", ""], ["live", "2024-05-02-b", "2024-05-01-a"]),
        (["topkin", "export", "csv:x", "--run", "2024-05-02"], ["2024-05-02-b"]),
        (["topkin", "run", "--set", "train.epo"], ["train.epochs="]),
    ],
)
def test_commands_options_runs_versions_and_keys_are_completed(
    shop: Path,
    words: list[str],
    answers: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert completed(words, monkeypatch, capsys) == answers


def test_a_damaged_configuration_completes_nothing_and_says_nothing(
    shop: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for text in ("[run", "[run]\noutput = 5\n", 'run = "x"\n', '[run]\noutput = "s3://bucket/x"\n'):
        Path("topkin.toml").write_text(text)
        assert completed(["topkin", "show", "--run", ""], monkeypatch, capsys) == []


def test_runs_are_completed_without_heavy_imports(shop: Path) -> None:
    script = (
        "import os, sys; os.environ.update(_TOPKIN_COMPLETE='complete_bash', COMP_WORDS='topkin show --run ',"
        " COMP_CWORD='3')\nfrom topkin.pipelines.cli.app import main\nassert main([]) == 0\n"
        "print({'pyarrow', 'numpy', 'duckdb', 'tensorflow', 'apache_beam'} & set(sys.modules) or 'light')"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["2024-05-02-b", "2024-05-01-a", "light"]


def test_other_shells_show_the_meaning_with_all_words(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("_TYPER_COMPLETE_FISH_ACTION", "get-args")
    for words, meaning in (
        ("topkin tun", "Search the settings of [train] on"),
        ("topkin tune --k", "key of [train] only"),
    ):
        monkeypatch.setenv("_TYPER_COMPLETE_ARGS", words)
        for shell in ("zsh", "fish"):
            monkeypatch.setenv("_TOPKIN_COMPLETE", f"complete_{shell}")
            assert main([]) == 0
            assert meaning in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_gets_its_script(
    shell: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")
    monkeypatch.setenv("_TOPKIN_COMPLETE", f"source_{shell}")
    assert main([]) == 0
    assert f"_TOPKIN_COMPLETE=complete_{shell}" in capsys.readouterr().out

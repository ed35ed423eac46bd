"""What `topkin embed --encoder` is told: flags over settings over the file, whose other sections do not count."""

from pathlib import Path

import pytest

from topkin.config.load import load_encoder_run
from topkin.errors import ConfigError

FILE = '[items]\npath = "items.parquet"\n[recommend]\nk = "five"\n[encoder]\npath = "model.keras"\n'
FLAGS = [("--encoder", ("encoder", "path"), '"other.keras"'), ("--users", ("users", "path"), '"users.parquet"')]


def test_flags_win_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "topkin.toml").write_text(FILE)
    settings = load_encoder_run("topkin.toml", [], [], {})
    assert settings is not None
    assert settings.encoder.path == str(tmp_path / "model.keras")
    assert settings.sides == ["items"]
    settings = load_encoder_run("topkin.toml", FLAGS, ["encoder.user_inputs.x=bought"], {})
    assert settings is not None
    assert settings.encoder.path == str(tmp_path / "other.keras")
    assert settings.sides == ["items", "users"]


def test_flags_alone_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = load_encoder_run(None, FLAGS, [], {})
    assert settings is not None
    assert settings.users is not None
    assert (settings.users.path, settings.sides) == (str(tmp_path / "users.parquet"), ["users"])


def test_without_an_encoder_there_is_nothing(tmp_path: Path) -> None:
    (tmp_path / "topkin.toml").write_text('[items]\npath = "items.parquet"\n')
    assert load_encoder_run(tmp_path / "topkin.toml", [], [], {}) is None


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        (["encoder.path=m.keras"], "a table of items or of users must be named: set items.path or users.path"),
        (["encoder.path=m.keras", "items.path=i", "encoder.user_inputs.x=y"], "encoder.user_inputs is for a table of"),
        (["encoder.pth=m.keras", "items.path=i"], "encoder.pth is not a key; did you mean encoder.path?"),
    ],
)
def test_what_is_wrong_is_told(sets: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load_encoder_run(None, [], sets, {})
    assert message in str(raised.value)

"""The page on encoders: its snippet runs, its configuration loads, its messages are those of the code."""

import re
import tomllib
from pathlib import Path

import pytest

from topkin.config.encoder_run import EncoderRunSettings
from topkin.encoding.signature import KINDS

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "encoders.md").read_text(encoding="utf-8")


def test_the_snippet_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    for code in re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL):
        exec(compile(code, "docs/encoders.md", "exec"), {})
    assert capsys.readouterr().out == "['items (bought) is missing']\n(1, 8) ['price (ln(cost + 1)) is missing']\n"


def test_the_configuration_loads() -> None:
    (matches,) = re.findall(r"^```toml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    settings = EncoderRunSettings.model_validate(tomllib.loads(matches))
    assert settings.encoder.inputs["image"].choice().size == (64, 64)
    assert settings.encoder.inputs["price"].column == "ln(price + 1)"


def test_every_kind_is_in_the_table() -> None:
    (table,) = re.findall(r"^\| kind \|.*?\n\n", PAGE, re.MULTILINE | re.DOTALL)
    named = {name for row in table.strip().splitlines()[2:] for name in re.findall(r"`(\w+)`", row.split("|")[1])}
    assert named == set(KINDS)


def test_the_messages_are_in_the_code() -> None:
    places = ("models/encoders/keras_*.py", "models/ops/archive.py", "topkin/encoding/*.py")
    paths = [path for place in places for path in ROOT.glob(place)]
    code = " ".join(re.sub(r'"\n\s+f?"', "", path.read_text(encoding="utf-8")) for path in paths)
    for words in (
        "must hold no code, got a Lambda layer",
        "must be of layers that Keras or topkin registers, got class",
        "must have one output, the vectors, got",
        "must give vectors, (rows, dim) of floats",
        "must take any number of rows",
        "needs a column, the table has no",
        "must come back from its file with its weights",
        "must have the SHA-256 of its signature",
        "must take histories of",
    ):
        assert words in PAGE
        assert words in code

"""A configuration of items alone: how it is told from one of purchases, and what does not go together."""

from pathlib import Path

import pytest

from topkin.config.items_run import ItemsRunSettings
from topkin.config.load import load_run, load_settings
from topkin.config.sections import Settings
from topkin.errors import ConfigError

ITEMS = '[items]\npath = "items.parquet"\n'
IMAGE = '[encoder.inputs]\nimage = { column = "photo", kind = "image", size = [8, 8], missing = 0 }\n'


def load(folder: Path, text: str, *sets: str) -> Settings | ItemsRunSettings:
    path = folder / "topkin.toml"
    path.write_text(text)
    return load_run(path, sets, {})


@pytest.mark.parametrize(
    "text",
    [
        f'{ITEMS}[encoder]\npath = "model.keras"',
        f'{ITEMS}vector = "emb"',
        f'{ITEMS}label = "kind"\n{IMAGE}[train]\nmethod = "labels"',
        f'{ITEMS}{IMAGE}[train]\nmethod = "pairs"\npairs = {{ path = "pairs.parquet" }}',
        f'{ITEMS}label = "kind"\n[encoder]\npath = "model.keras"\n[queries]\npath = "queries.parquet"',
    ],
)
def test_items_with_an_encoder_and_no_purchases_are_a_run_of_their_own(tmp_path: Path, text: str) -> None:
    settings = load(tmp_path, text)
    assert isinstance(settings, ItemsRunSettings)
    assert settings.kind == "items"
    assert settings.items.path == str(tmp_path / "items.parquet")
    paths = [settings.encoder.path, settings.queries and settings.queries.path]
    paths += [settings.train.pairs.path] if settings.train is not None and settings.train.pairs is not None else []
    assert all(path.startswith(str(tmp_path)) for path in paths if path is not None)
    with pytest.raises(ConfigError, match=r"is of items alone, without \[purchases\]: topkin run and its stages take"):
        load_settings(tmp_path / "topkin.toml", [], {})


def test_with_purchases_it_is_a_run_over_these(tmp_path: Path) -> None:
    settings = load(tmp_path, f'{ITEMS}[purchases]\npath = "p.parquet"\n[encoder]\npath = "model.keras"')
    assert isinstance(settings, Settings)
    assert settings.kind == "purchases"


def test_an_input_says_what_feeds_it(tmp_path: Path) -> None:
    settings = load(tmp_path, f'{ITEMS}label = "kind"\n{IMAGE}[train]\nmethod = "labels"')
    choice = settings.encoder.inputs["image"].choice()  # type: ignore[union-attr]
    assert (choice.column, choice.kind, choice.size, choice.missing) == ("photo", "image", (8, 8), 0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{ITEMS}[encoder]\njit_compile = true", "items alone need an encoder: set encoder.path to a trained .keras"),
        (f'{ITEMS}vector = "emb"\n[encoder]\npath = "m.keras"', "items.vector takes the place of an encoder"),
        (f'{ITEMS}label = "kind"\n[train]\nmethod = "labels"', r"[train] needs an input to learn from"),
        (f'{ITEMS}{IMAGE}[train]\nmethod = "labels"', "learns from labels: set items.label to their column"),
        (f'{ITEMS}vector = "e"\n[queries]\npath = "q.parquet"', "queries are judged by the items' label"),
        (
            f'{ITEMS}vector = "e"\n[publish]\nmin_label_recall = 0.5',
            "publish.min_label_recall is judged by the items' label",
        ),
        (f'{ITEMS}vector = "e"\n[recommend]\nk = 5', "[recommend] is for a run over purchases: add [purchases]"),
        (f'{ITEMS}vector = "e"\n[similar]\nusers = 5', "similar.users is not a key; [similar] takes items"),
        (f'{ITEMS}vector = "e"\nlable = "x"', "items.lable is not a key; did you mean items.label?"),
        (f'{ITEMS}vector = "e"\n[items.features]\nbrand = "b"', "items.features"),
    ],
)
def test_what_does_not_go_together_is_told(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load(tmp_path, text)
    assert message in str(raised.value)

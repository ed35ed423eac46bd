"""The recipe of the page on vectors of items runs, and the job takes what it writes."""

import re
import tomllib
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytest.importorskip("tensorflow")

from topkin.artifacts.embeddings import vectors_of
from topkin.config.items_run import kind_of
from topkin.config.sections import Settings
from topkin.pipelines.prepare import check_inputs

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "item_vectors.md").read_text(encoding="utf-8")
DAY = datetime(2024, 5, 1)


def encode(texts: list[str]) -> np.ndarray:
    """Letters counted, in place of a pretrained encoder."""
    return np.array([[text.count(chr(97 + n % 26)) for n in range(384)] for text in texts], np.float64)


def test_the_recipe_writes_a_column_that_the_configuration_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    pq.write_table(pa.table({"item_id": ["a", "b", "c"], "title": ["sofa", None, "couch"]}), "items.parquet")
    pq.write_table(pa.table({"user_id": ["u"], "item_id": ["a"], "timestamp": [DAY]}), "purchases.parquet")
    (recipe,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    exec(compile(recipe, "docs/item_vectors.md", "exec"), {"encode": encode})
    written = vectors_of(pq.read_table("items_with_vectors.parquet"))
    assert (written == np.stack([encode(["sofa"])[0], np.zeros(384), encode(["couch"])[0]])).all()
    matches, by_model, of_both, alone = re.findall(r"^```toml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert (
        "encoder" in Settings.model_validate({"purchases": {"path": "p"}, **tomllib.loads(by_model)}).model_fields_set
    )
    assert Settings.model_validate(tomllib.loads(of_both)).vectors_given
    assert kind_of(tomllib.loads(alone)).model_validate(tomllib.loads(alone)).heldout is not None
    settings = Settings.model_validate({"purchases": {"path": "purchases.parquet"}, **tomllib.loads(matches)})
    assert check_inputs(settings, datetime(2024, 6, 1)) == []

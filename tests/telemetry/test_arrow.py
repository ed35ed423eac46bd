"""pandas, where it is installed, is not loaded by commands that do not need it, and works where something does."""

import subprocess
import sys

import pytest

from topkin.telemetry.arrow import _NoPandas, arrow_without_pandas

SCRIPT = """
import sys
from topkin.telemetry.arrow import _NoPandas, arrow_without_pandas
arrow_without_pandas()
import pyarrow as pa
import topkin.ingest.inference.look, topkin.pipelines.cli.check
rows = pa.table({"a": pa.array([1, 2]), "b": ["x", None]})
assert "pandas" not in sys.modules
import pandas as pd
frame = pd.DataFrame({"a": [1, 2], "b": ["x", None]})
assert pa.array(frame["a"]).to_pylist() == [1, 2]
assert pa.Table.from_pandas(frame)["b"].to_pylist() == rows["b"].to_pylist()
assert rows.to_pandas()["a"].tolist() == [1, 2]
"""


def test_pandas_is_left_out_until_it_is_used() -> None:
    subprocess.run([sys.executable, "-c", SCRIPT], check=True, timeout=600)


def test_the_finder_hides_pandas_and_nothing_else() -> None:
    with pytest.raises(ImportError, match="pandas"):
        _NoPandas.find_spec("pandas")
    assert _NoPandas.find_spec("numpy") is None


def test_where_arrow_is_there_already_nothing_is_done() -> None:
    before = list(sys.meta_path)
    arrow_without_pandas()
    assert sys.meta_path == before

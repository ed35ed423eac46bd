"""pandas, where it is installed, is not loaded by commands that do not need it, and works where something does."""

import subprocess
import sys

SCRIPT = """
import sys
from topkin.telemetry.arrow import arrow_without_pandas
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

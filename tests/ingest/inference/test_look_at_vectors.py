"""``topkin init`` without purchases: items and users by their vectors."""

from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from topkin.config.load import load_settings
from topkin.config.shop.vectors import VectorsSettings
from topkin.errors import ConfigError, InputError
from topkin.ingest.inference.look import look
from topkin.ingest.inference.written import configuration

NOW = datetime(2024, 6, 1)
VECTORS = pa.array([[1.0, 2.0], [3.0, 4.0]], pa.list_(pa.float32()))


def table(folder: Path, name: str, **columns: pa.Array) -> str:
    path = folder / f"{name}.parquet"
    pq.write_table(pa.table({f"{name}_id": ["a", "b"], **columns}), path)
    return str(path)


def test_two_files_of_vectors_make_a_configuration(tmp_path: Path) -> None:
    items = table(tmp_path, "item", title=pa.array(["A", "B"]), emb=VECTORS)
    users = table(tmp_path, "user", numbers=VECTORS, user_vector=VECTORS)
    out = tmp_path / "topkin.toml"
    out.write_text(configuration(look(None, items, users, (), NOW), out, NOW))
    settings = load_settings(out, env={})
    assert isinstance(settings, VectorsSettings)
    assert settings.items is not None
    assert settings.users is not None
    assert (settings.items.vector, settings.items.title, settings.users.vector) == ("emb", "title", "user_vector")


def test_the_column_of_vectors_can_be_said(tmp_path: Path) -> None:
    items, users = table(tmp_path, "item", x=VECTORS, y=VECTORS), table(tmp_path, "user", x=VECTORS)
    with pytest.raises(InputError, match=r"got x and y: say which with --column items.vector=NAME"):
        look(None, items, users, (), NOW)
    [seen, _] = look(None, items, users, ["items.vector=y"], NOW).tables
    assert seen.column("vector") == "y"
    with pytest.raises(InputError, match="there is no 'z'"):
        look(None, items, users, ["items.vector=z"], NOW)


def test_a_side_without_a_file_or_without_vectors_is_told(tmp_path: Path) -> None:
    items, users = table(tmp_path, "item", x=VECTORS), table(tmp_path, "user")
    with pytest.raises(ConfigError, match="name the users with --users PATH, or the purchases"):
        look(None, items, None, (), NOW)
    with pytest.raises(InputError, match="users are known by a column of vectors, lists of floats, got none"):
        look(None, items, users, (), NOW)

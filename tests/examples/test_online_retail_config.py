"""The example configuration cleans the real purchases exactly as the data's own notes do."""

import tomllib
from pathlib import Path

import duckdb

from topkin.config.sections import Settings

EXAMPLE = Path(__file__).parents[2] / "examples" / "online_retail.toml"


def test_the_example_is_a_valid_configuration() -> None:
    settings = Settings(**tomllib.loads(EXAMPLE.read_text()))
    assert settings.purchases.segment == "country"
    assert settings.items is not None


def test_the_rules_keep_what_the_notes_call_clean(online_retail: Path) -> None:
    section = tomllib.loads(EXAMPLE.read_text())["purchases"]
    assert (EXAMPLE.parent / section["path"]).resolve() == (online_retail / "purchases.parquet").resolve()
    replaced = ", ".join(f"{sql} AS {column}" for column, sql in section["normalise"].items())
    rules = " AND ".join(f"({sql})" for sql in section["rules"].values())
    kept = duckdb.sql(
        "SELECT count(*), count(DISTINCT user_id), count(DISTINCT item_id), count(DISTINCT (user_id, item_id)) "
        f"FROM (SELECT * REPLACE ({replaced}) FROM '{online_retail}/purchases.parquet') "
        f"WHERE user_id IS NOT NULL AND {rules}"
    ).fetchone()
    assert kept == (396_337, 4_334, 3_659, 266_221)

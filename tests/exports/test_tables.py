"""The tables of a run, found in its folders, and the command that exports them."""

import json
import os
import sqlite3

import pytest

from topkin.artifacts import manifest, runs, storage
from topkin.errors import ArtifactError, ConfigError
from topkin.exports.tables import chosen, tables_of
from topkin.pipelines.cli.app import main


def test_every_table_is_found_under_its_name(small_run):
    tables = tables_of(small_run)
    lists = {"recommendations", "short_lists", "similar_items", "similar_users", "neighbours_bought"}
    assert {*tables} == {*lists, "histories", "catalogue", "vocabularies_words"}
    assert {t.name for t in chosen(small_run)} == lists
    assert tables["recommendations"].key == ("user_id", "rank")
    assert sum(batch.num_rows for batch in tables["recommendations"].batches(7)) == 40
    assert max(batch.num_rows for batch in tables["recommendations"].batches(7)) <= 7
    assert [t.name for t in chosen(small_run, ["catalogue", "catalogue"])] == ["catalogue"]


def test_lists_of_other_names_are_tables_too(small_run):
    source = storage.join(small_run.folder("recommend"), "recommendations/date=2024-05-01")
    for name in storage.files(source):
        table = storage.read_parquet(storage.join(source, name))
        storage.write_parquet(table, storage.join(small_run.folder("recommend"), "mail/date=2024-05-01", name))
    assert "mail" in {t.name for t in chosen(small_run)}


def test_a_table_of_which_a_file_is_gone_is_told_and_not_left_out(small_run):
    manifest.seal(small_run.folder("recommend"), stage="recommend", key="recommend", summary={})
    *_, path = tables_of(small_run)["recommendations"].paths
    os.remove(path)
    with pytest.raises(ArtifactError, match=f"{path} is missing: run topkin recommend again"):
        chosen(small_run)


def test_a_version_is_of_the_run_and_of_what_is_in_the_table(small_run):
    before = {name: table.version for name, table in tables_of(small_run).items()}
    assert all(version.startswith("r1.") for version in before.values())
    folder = small_run.folder("similar")
    manifest.seal(folder, stage="similar", key="similar", summary={})
    assert {name: table.version for name, table in tables_of(small_run).items()} == before  # read, not hashed
    path = tables_of(small_run)["similar_items"].paths[0]
    storage.write_parquet(storage.read_parquet(path).slice(0, 1), path)
    manifest.seal(folder, stage="similar", key="similar", summary={})
    after = {name: table.version for name, table in tables_of(small_run).items()}
    assert {name for name in before if before[name] != after[name]} == {"similar_items"}


def test_what_is_not_there_is_said(small_run):
    with pytest.raises(ConfigError, match="no table 'recomendations', did you mean recommendations"):
        chosen(small_run, ["recomendations"])
    with pytest.raises(ArtifactError, match="no lists yet"):
        chosen(runs.Run(small_run.root, "r1", small_run.as_of))


@pytest.mark.parametrize("small_run", ["string"], indirect=True)
def test_the_command_exports_once(small_run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "topkin.toml").write_text(f'[run]\noutput = "{small_run.root}"\n[purchases]\npath = "p.parquet"\n')
    assert main(["export", "sqlite:lists.db"]) == 0
    out = capsys.readouterr().out
    assert "recommendations" in out
    assert "40 rows   r1." in out
    assert main(["export", "sqlite:lists.db", "--table", "recommendations", "--json", "--run", small_run.path]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert (printed["run_id"], printed["tables"][0]["rows"]) == ("r1", None)
    with sqlite3.connect("lists.db") as db:
        rows = db.execute(
            "SELECT user_id, rank, item_id, because FROM recommendations ORDER BY user_id, rank"
        ).fetchall()
        assert rows[:2] == [("100", 1, "a2", '["a1"]'), ("100", 2, "b1", '["a1"]')]
        assert db.execute("SELECT rows FROM topkin_exports WHERE name = 'similar_items'").fetchone() == (2,)
    assert main(["export", "sqlite:lists.db", "--run", "r9"]) == 2
    assert "there is no run r9 in" in capsys.readouterr().err
    assert main(["export", "sqlit:lists.db"]) == 2
    assert "did you mean sqlite:FILE" in capsys.readouterr().err

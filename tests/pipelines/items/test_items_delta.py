"""Nights of a run over items alone whose index is grown: by the command line, against brute force and a rebuilt one."""

from datetime import datetime
from pathlib import Path

import keras
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from topkin.artifacts import runs, storage
from topkin.artifacts.embeddings import read_encoded
from topkin.config.load import load_run
from topkin.encoding.signature import read_signature
from topkin.linalg.cosine import unit_rows
from topkin.pipelines.cli.app import main
from topkin.pipelines.engine.job import Job
from topkin.pipelines.items.unchanged import unchanged
from topkin.search.hnsw.files import load_index

DIM, N = 6, 1200

CONFIG = """
[run]
parts = 2
[items]
path = "items.parquet"
item_id = "sku"
[encoder]
path = "double.keras"
[encoder.inputs]
of = { column = "features", kind = "vector" }
[index]
growth = "delta"
sample = 50
[similar]
items = 0
"""


def write(vectors: dict[str, np.ndarray]) -> None:
    rows = pa.array([row.tolist() for row in vectors.values()], pa.list_(pa.float32()))
    pq.write_table(pa.table({"sku": list(vectors), "features": rows}), "items.parquet")


def save_model(factor: float) -> None:
    given = keras.Input((DIM,), name="of")
    keras.Model(given, keras.layers.Rescaling(factor)(given)).save("double.keras")


@pytest.fixture
def items(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    """The vectors of the first night, in a folder with the configuration and the model."""
    monkeypatch.chdir(tmp_path)
    Path("topkin.toml").write_text(CONFIG)
    save_model(2.0)
    drawn = np.random.default_rng(0).standard_normal((N, DIM)).astype(np.float32)
    return {f"item{n:05d}": row for n, row in enumerate(drawn)}


def night(day: int, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[runs.Run, str]:
    """The published run of a day, and what was told."""
    assert main(["run", "--as-of", f"2026-01-{day:02d}", *more]) == 0
    run = runs.published("topkin-out")
    assert run is not None
    return run, capsys.readouterr().err


def answers(run: runs.Run, vectors: dict[str, np.ndarray]) -> list[list[str]]:
    """The ids of the 5 nearest to each item, whose first is itself."""
    index = load_index(run.folder("index"))
    place = np.argsort(index.rows)
    rows, _ = index.search(unit_rows(np.array(list(vectors.values()))), 5)
    ids = np.array(index.item_ids.to_pylist())[place]
    assert sorted(ids) == sorted(vectors)
    assert ids[rows[:, 0]].tolist() == list(vectors)
    return [ids[row].tolist() for row in rows]


def test_a_delta_night_gives_what_all_built_again_gives(items, capsys):
    write(items)
    first, result = night(1, capsys)
    assert "built anew: no run was published as of an earlier date" in result
    answers(first, items)

    rng = np.random.default_rng(1)
    for gone in ("item00003", "item00700"):
        del items[gone]
    items["item00010"] = rng.standard_normal(DIM).astype(np.float32)
    items |= {f"new{n}": rng.standard_normal(DIM).astype(np.float32) for n in range(30)}
    write(items)
    second, result = night(2, capsys)
    line = "grown from the index published before: 30 added, 1 changed, 2 removed; 2 shards with 3 tombstones"
    assert line in result
    assert f"items: {N - 3:,} have their vector of the version published before" in result
    info = storage.read_json(storage.join(second.folder("index"), "index.json"))
    assert (info["indexed"], info["recall"]["recall@10"]) == (N + 28, 1)
    by_growth = answers(second, items)
    again, result = night(2, capsys)
    assert again == second
    assert result.count("as before") == 7
    assert line in result

    rebuilt, result = night(2, capsys, "--set", "index.growth=rebuild")
    encoder = storage.read_json(storage.join(rebuilt.folder("embed"), "vectors.json"))["encoder"]
    anew, taken = (read_encoded(run.folder("embed"), encoder) for run in (rebuilt, second))
    assert anew.ids.equals(taken.ids)
    np.testing.assert_allclose(anew.vectors, taken.vectors, rtol=1e-6)
    np.testing.assert_allclose(taken.vectors, [2 * items[i] for i in taken.ids.to_pylist()], rtol=1e-6)
    assert "grown" not in result
    assert "built anew" not in result
    assert np.mean([a == b for a, b in zip(by_growth, answers(rebuilt, items), strict=True)]) > 0.99

    save_model(3.0)
    third, result = night(3, capsys)
    assert "have their vector" not in result
    assert "built anew:" in result
    assert "was made by encoder" in result
    answers(third, items)


@pytest.mark.parametrize("change", ["", "encoder.inputs.of.missing=0.5", "encoder.precision=mixed_bfloat16"])
def test_vectors_are_taken_where_nothing_else_decides_them(items, capsys, change):
    write(items)
    for stage in ("prepare", "train", "embed"):
        assert main([stage, "--as-of", "2026-01-01"]) == 0
    items["item00010"] = np.zeros(DIM, np.float32) + 1
    write(items)
    more = ["--set", change] if change else []
    for stage in ("prepare", "train"):
        assert main([stage, "--as-of", "2026-01-02", *more]) == 0
    settings = load_run("topkin.toml", [change] if change else [])
    root = Path("topkin-out/runs")
    first, second = sorted(path for path in root.iterdir() if path.name.startswith("2026"))
    earlier = {"prepare": first / "prepared", "train": first / "model", "embed": first / "embeddings"}
    now = {stage: second / earlier[stage].name for stage in ("prepare", "train")}
    job = Job(
        settings=settings,
        as_of=datetime(2026, 1, 2),
        out=str(second / "out"),
        folders={stage: str(path) for stage, path in now.items()},
        earlier={stage: str(path) for stage, path in earlier.items()},
    )
    signature = read_signature(str(now["train"] / "encoder"))
    taken = unchanged(job, signature)
    if change:
        assert taken is None
    else:
        assert taken is not None
        assert taken.rows == N - 1
        changed = storage.read_parts(taken.changed)
        assert changed["item_id"].to_pylist() == ["item00010"]


def test_rejects_of_a_delta_night_stand_where_they_do_in_a_whole_one(items, capsys):
    write(items)
    night(1, capsys)
    for name in ("item00010", "item00700", "item00701"):
        items[name] = np.full(DIM, np.nan, np.float32)
    write(items)
    second, result = night(2, capsys)
    assert "have their vector of the version published before" in result
    rebuilt, _ = night(2, capsys, "--set", "index.growth=rebuild")
    collected = []
    for run in (second, rebuilt):
        rejects = storage.read_parts(storage.join(run.folder("embed"), "rejects")).to_pylist()
        prepared = storage.join(str(Path(run.folder("prepare")).absolute()), "items")
        for row in rejects:
            assert row["file"].startswith(prepared)
            assert storage.read_parquet(row["file"])["item_id"][row["row"]].as_py() in row["record"]
        collected.append(sorted((row["file"].removeprefix(prepared), row["row"], row["record"]) for row in rejects))
    assert collected[0] == collected[1]
    assert len(collected[0]) == 3

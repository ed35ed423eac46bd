"""Lists without purchases: users and items bring vectors, or an encoder makes them, and held-out purchases judge."""

from datetime import datetime
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from topkin.artifacts import runs, storage
from topkin.artifacts.embeddings import vectors_of
from topkin.config.shop.vectors import VectorsSettings
from topkin.errors import InputError
from topkin.linalg.cosine import cosine_matrix
from topkin.models import save_encoder
from topkin.pipelines.cli.app import main
from topkin.pipelines.engine import stages
from topkin.pipelines.prepare import check_inputs

AS_OF, DIM, USERS, ITEMS = datetime(2024, 6, 1), 4, 30, 20
EXAMPLE = Path(__file__).parents[3] / "examples" / "vectors.toml"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """items, users and later purchases as files, two towers as an encoder."""
    folder = tmp_path_factory.mktemp("vectors")
    rng = np.random.default_rng(2)
    keras.utils.set_random_seed(2)
    towers = {}
    for side, n in (("item", ITEMS), ("user", USERS)):
        given = rng.normal(size=(n, 2)).astype(np.float32)
        place = keras.Input((2,), name=f"{side}_place")
        model = keras.Model(place, keras.layers.Dense(DIM)(place))
        vectors = model.predict(given, verbose=0)
        ids = [f"{side[0]}{number}" for number in range(n)]
        columns = {f"{side}_id": ids, f"{side}_place": given.tolist()}
        columns["vector"] = [None if side == "user" and number == 3 else list(v) for number, v in enumerate(vectors)]
        pq.write_table(pa.table(columns), folder / f"{side}s.parquet")
        towers[side] = model
    columns = {"user_place": {"column": "user_place", "kind": "vector"}}
    save_encoder(
        towers["item"],
        str(folder / "towers"),
        {"item_place": {"column": "item_place", "kind": "vector"}},
        user=towers["user"],
        user_inputs=columns,
    )
    users = [f"u{n}" for n in range(12)] + ["stranger"]
    later = {"user_id": users, "item_id": ["i1", "i2"] * 6 + ["i3"], "timestamp": [AS_OF] * 13}
    pq.write_table(pa.table(later), folder / "later.parquet")
    return folder


def sections(shop: Path, out: Path, **more: Any) -> dict[str, Any]:
    tables = {side: {"path": str(shop / f"{side}.parquet"), "vector": "vector"} for side in ("items", "users")}
    return {"run": {"output": str(out), "parts": 2}, **tables, "index": {"sample": 10}, **more}


def test_the_example_lists_the_nearest_items_and_later_purchases_judge(
    shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = sections(shop, tmp_path / "out")
    sets = [f"{side}.path={values[side]['path']}" for side in ("items", "users")]
    sets += [f"heldout.path={shop / 'later.parquet'}", f"run.output={tmp_path / 'out'}", "run.parts=2"]
    config = ["--config", str(EXAMPLE), *(word for text in sets for word in ("--set", text))]
    assert main(["run", *config, "--as-of", "2024-06-01", "-q"]) == 0
    run = runs.published(str(tmp_path / "out"))
    assert run is not None
    users, items = (pq.read_table(shop / f"{side}.parquet") for side in ("users", "items"))
    cosine = cosine_matrix(
        np.array([v or [0.0] * DIM for v in users["vector"].to_pylist()]), np.array(items["vector"].to_pylist())
    )
    rows = storage.read_parts(storage.join(run.folder("recommend"), "recommendations/date=2024-06-01")).to_pylist()
    for number, user in enumerate(users["user_id"].to_pylist()):
        listed = [r["item_id"] for r in rows if r["user_id"] == user]
        nearest = [f"i{n}" for n in np.argsort(-cosine[number], kind="stable")][:20]
        assert listed == ([] if number == 3 else nearest)
    metrics = storage.read_json(storage.join(run.folder("evaluate"), "metrics.json"))
    where = [np.argsort(-cosine[n], kind="stable").tolist().index(n % 2 + 1) for n in range(12) if n != 3]
    assert metrics["novel"]["model"]["recall@5"] == pytest.approx(np.mean([rank < 5 for rank in where]))
    assert (metrics["heldout"]["users"], metrics["heldout"]["events_of_new_users"]) == (11, 1)
    page = Path(run.folder("report"), "report.html").read_text()
    assert "11 users with a vector bought" in page
    assert "Off without purchases: baselines" in page
    assert main(["show", *config, "u1"]) == 0
    assert "recommendations" in capsys.readouterr().out
    assert main(["backtest", *config]) == 2
    assert "back-test" in capsys.readouterr().err


def prepared(asked: VectorsSettings) -> tuple[pa.Table, pa.Table, list[str]]:
    """Vectors of users and of items by the stage ``prepare``, and what it says."""
    summaries: dict[str, Any] = {}
    run = stages.run_stages(
        asked, as_of=AS_OF, only="prepare", tell=lambda e: summaries.update({e.stage: dict(e.summary or {})})
    )
    users = storage.read_parts(storage.join(run.folder("prepare"), "histories"), ["user_id", "vector"])
    items = storage.read_parquet(storage.join(run.folder("prepare"), "catalogue.parquet"), ["item_id", "vector"])
    return users.sort_by("user_id"), items, summaries["prepare"]["notes"]


def test_an_encoder_gives_either_side_the_vectors_that_a_column_would(shop: Path, tmp_path: Path) -> None:
    columns = sections(shop, tmp_path / "columns")
    by_column = prepared(VectorsSettings.model_validate(columns))
    for encoded, parts in ((("items", "users"), 2), (("users",), 40)):  # some of the many parts have nobody
        values = sections(shop, tmp_path / encoded[0], encoder={"path": str(shop / "towers")})
        values["run"]["parts"] = parts
        for side in encoded:
            del values[side]["vector"]
        users, items, notes = prepared(VectorsSettings.model_validate(values))
        theirs = vectors_of(users)
        without = users["user_id"].to_pylist().index("u3")  # the column has no vector of that user
        assert np.delete(theirs, without, 0) == pytest.approx(np.delete(vectors_of(by_column[0]), without, 0), abs=1e-5)
        assert vectors_of(items) == pytest.approx(vectors_of(by_column[1]), abs=1e-5)
        assert f"30 of 30 users have a vector of {DIM} numbers by {shop / 'towers'}" in notes


def test_lengths_that_differ_are_told_before_any_work(shop: Path, tmp_path: Path) -> None:
    short = pq.read_table(shop / "items.parquet")
    short = short.set_column(2, "vector", pa.array([[1.0, 2.0]] * ITEMS))
    pq.write_table(short, tmp_path / "items.parquet")
    for encoder, words in (({}, "items.vector, 'vector', has 2 numbers"), ({"path": str(shop / "towers")}, "have 4")):
        values = sections(shop, tmp_path / "out", **({"encoder": encoder} if encoder else {}))
        values["items"]["path"] = str(tmp_path / "items.parquet")
        if encoder:
            del values["users"]["vector"]
        asked = VectorsSettings.model_validate(values)
        [fault] = check_inputs(asked, AS_OF)
        assert "vectors of users and items must have one length" in str(fault)
        assert words in str(fault)
        with pytest.raises(InputError, match="must have one length"):
            stages.run_stages(asked, as_of=AS_OF, only="prepare")


def test_ids_of_another_type_among_those_held_out_are_told(shop: Path, tmp_path: Path) -> None:
    later = pq.read_table(shop / "later.parquet").set_column(0, "user_id", pa.array(range(13)))
    pq.write_table(later, tmp_path / "later.parquet")
    asked = VectorsSettings.model_validate(sections(shop, tmp_path, heldout={"path": str(tmp_path / "later.parquet")}))
    [fault] = check_inputs(asked, AS_OF)
    assert "(heldout.user_id) is int64, but users have string in 'user_id'" in str(fault)

"""A run over items alone, from Parquet to the published index, by the command line."""

import json
import re
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from topkin.artifacts import runs, storage
from topkin.artifacts.embeddings import read_encoded
from topkin.linalg.cosine import unit_rows
from topkin.pipelines.cli.app import main
from topkin.pipelines.engine.registry import ORDERS

SIDE, DIM = 6, 5
WEIGHTS = np.random.default_rng(0).standard_normal((SIDE * SIDE, DIM)).astype(np.float32)
AS_OF = ["--as-of", "2026-01-01"]
UNTRAINED = ["--set", "encoder.path=", "--set"]


def images(seed: int, n: int) -> tuple[np.ndarray, list[str]]:
    """(n, SIDE, SIDE) uint8 pictures of four kinds, and their labels."""
    rng = np.random.default_rng(seed)
    kinds = np.random.default_rng(1).integers(0, 200, (4, SIDE, SIDE))
    which = rng.integers(0, 4, n)
    noise = rng.integers(0, 55, (n, SIDE, SIDE))
    return (kinds[which] + noise).astype(np.uint8), [f"kind {w}" for w in which]


def table(name: str, seed: int, n: int) -> pa.Table:
    pixels, labels = images(seed, n)
    photos = pa.array([p.tobytes() for p in pixels], pa.binary(SIDE * SIDE))
    ids = [f"{name}{i:03d}" for i in range(n)]
    titles = [f"a {label} of {name}" for label in labels]
    return pa.table({"sku": ids, "photo": photos, "class": labels, "name": titles})


CONFIG = """
[run]
parts = 3
[items]
path = "items.parquet"
item_id = "sku"
title = "name"
label = "class"
[queries]
path = "queries.parquet"
[encoder]
path = "flat.keras"
[encoder.inputs]
image = { column = "photo", kind = "image" }
[index]
sample = 20
[similar]
items = 4
[evaluate]
k = [1, 5]
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The configuration, the items (one listed twice, one without an image), the queries and a linear model."""
    monkeypatch.chdir(tmp_path)
    given = keras.Input((SIDE, SIDE, 1), name="image")
    dense = keras.layers.Dense(DIM, use_bias=False)
    model = keras.Model(given, dense(keras.layers.Flatten()(given)))
    dense.set_weights([WEIGHTS])
    model.save("flat.keras")
    items = table("item", 2, 60)
    again = items.slice(7, 1)
    blind = items.slice(9, 1).set_column(0, "sku", [["blind"]]).set_column(1, "photo", pa.nulls(1, pa.binary(36)))
    pq.write_table(pa.concat_tables([items, again, blind]), "items.parquet", row_group_size=25)
    pq.write_table(table("query", 3, 20), "queries.parquet")
    (tmp_path / "topkin.toml").write_text(CONFIG)
    return tmp_path


def expected(name: str, seed: int, n: int) -> tuple[list[str], np.ndarray, list[str]]:
    """Ids, unit vectors and labels, by hand."""
    pixels, labels = images(seed, n)
    return (
        [f"{name}{i:03d}" for i in range(n)],
        unit_rows(pixels.reshape(n, -1).astype(np.float32) @ WEIGHTS),
        labels,
    )


def published(folder: Path) -> runs.Run:
    run = runs.published(str(folder / "topkin-out"))
    assert run is not None
    return run


def test_the_whole_run_gives_what_brute_force_gives(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", *AS_OF]) == 0
    printed = capsys.readouterr().err
    assert "item listed twice" in printed
    assert "items: 1 without a vector, for image (photo) is missing" in printed
    assert "items: " in printed
    assert " rows a second on " in printed
    assert "% padding" in printed
    run = published(folder)
    assert set(run.folders) == set(ORDERS["items"])
    statistics = storage.read_json(storage.join(run.folder("prepare"), "statistics.json"))
    assert (statistics["items"], statistics["queries"], statistics["labels"]) == (61, 20, 4)
    assert statistics["sources"]["items"]["rejected"] == {"item listed twice": 1}

    ids, vectors, labels = expected("item", 2, 60)
    encoder = storage.read_json(storage.join(run.folder("embed"), "vectors.json"))["encoder"]
    encoded = read_encoded(run.folder("embed"), encoder)
    got = dict(zip(encoded.ids.to_pylist(), unit_rows(encoded.vectors), strict=True))
    assert sorted(got) == ids
    np.testing.assert_allclose([got[i] for i in ids], vectors, atol=1e-5)

    near = pq.read_table(Path(run.folder("similar"), "similar_items")).to_pylist()
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -2)
    for place, own in enumerate(ids):
        rows = [row for row in near if row["item_id"] == own]
        assert [row["rank"] for row in rows] == [1, 2, 3, 4]
        np.testing.assert_allclose([row["score"] for row in rows], np.sort(cosines[place])[::-1][:4], atol=1e-5)

    _, asked, theirs = expected("query", 3, 20)
    nearest = (asked @ vectors.T).argmax(axis=1)
    right = np.mean([labels[n] == label for n, label in zip(nearest, theirs, strict=True)])
    metrics = storage.read_json(storage.join(run.folder("evaluate"), "metrics.json"))
    assert metrics["retrieval"]["recall_any@1"] == pytest.approx(right)
    assert metrics["judged_by"] == "queries"
    assert 0.5 < metrics["pairs"]["accuracy"] <= 1
    page = Path(run.folder("report"), "report.html").read_text()
    assert page.count("data:image/png;base64,") >= 20
    assert f"Recall@1 {right:.4f}" in page
    held = json.loads(re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', page)[0])["items"]
    assert {row["item_id"] for row in near} < set(held["id"])
    for item, row, picture in zip(held["id"], held["near"], held["picture"], strict=True):
        own = [(r["neighbour_id"], round(r["score"], 3)) for r in near if r["item_id"] == item]
        assert [(held["id"][n], s) for n, s in zip(row[::2], row[1::2], strict=True)] == own
        assert bool(picture) == bool(own)  # one has no image

    assert main(["run", *AS_OF]) == 0
    assert capsys.readouterr().err.count("as before") == len(ORDERS["items"])


def test_an_item_is_shown_with_its_neighbours(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", *AS_OF, "--set", "similar.items=2"]) == 0
    capsys.readouterr()
    assert main(["show", "item007", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)["item"]
    _, vectors, labels = expected("item", 2, 60)
    assert shown["item"]["label"] == labels[7]
    best = np.argsort(-np.delete(vectors @ vectors[7], 7))[:2]
    others = [i for i in range(60) if i != 7]
    assert [n["item"]["item_id"] for n in shown["neighbours"]] == [f"item{others[b]:03d}" for b in best]
    assert main(["show", "item007"]) == 0
    out = capsys.readouterr().out
    assert "sold" not in out
    assert f"label {labels[7]}" in out
    assert main(["show", "nobody"]) == 2
    assert "there is no user or item 'nobody'" in capsys.readouterr().err


def matches(folder: Path) -> dict[str, dict[str, Any]]:
    return {row["query_id"]: row for row in pq.read_table(folder / "topkin-matches" / "matches").to_pylist()}


def test_rows_are_matched_with_the_item_that_they_are(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", *AS_OF]) == 0
    known = table("item", 2, 60).slice(10, 3)
    strange = known.slice(0, 1).set_column(0, "sku", [["strange"]])
    strange = strange.set_column(1, "photo", pa.array([bytes(35) + b"\xff"], pa.binary(36)))
    broken = known.slice(0, 1).set_column(0, "sku", [["broken"]]).set_column(1, "photo", pa.nulls(1, pa.binary(36)))
    pq.write_table(pa.concat_tables([known, strange, broken]), "new.parquet")
    capsys.readouterr()
    assert main(["match", "new.parquet", "--threshold", "0.999"]) == 0
    out = capsys.readouterr().out
    assert "3 of 4 are a known item" in out
    assert "1  image (photo) is missing" in out
    rows = matches(folder)
    for own in ("item010", "item011", "item012"):
        assert (rows[own]["item_id"], rows[own]["nearest_id"]) == (own, own)
        assert rows[own]["score"] == pytest.approx(1, abs=1e-5)
    _, vectors, _ = expected("item", 2, 60)
    corner = unit_rows(255 * WEIGHTS[35:36])
    assert rows["strange"]["item_id"] is rows["strange"]["label"] is None
    assert rows["strange"]["nearest_id"] == f"item{int((corner @ vectors.T).argmax()):03d}"
    assert rows["strange"]["score"] == pytest.approx(float((corner @ vectors.T).max()), abs=1e-5)
    assert main(["match", "new.parquet", "--threshold", "0.5"]) == 2
    assert "--force makes them again" in capsys.readouterr().err
    assert main(["match", "new.parquet", "--force", "--threshold", "-1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["matched"] == 4


@pytest.mark.slow  # test_serving_jobs holds the same steps to the same bytes
def test_parts_and_processes_change_no_neighbour(folder: Path) -> None:
    tables = []
    for parts, beam in (("1", []), ("5", ["--", "--direct_running_mode=multi_processing", "--direct_num_workers=2"])):
        assert main(["run", *AS_OF, "--set", f"run.parts={parts}", *beam]) == 0
        rows = pq.read_table(Path(published(folder).folder("similar"), "similar_items"))
        tables.append(rows.sort_by([("item_id", "ascending"), ("rank", "ascending")]))
    assert tables[0]["neighbour_id"].equals(tables[1]["neighbour_id"])
    np.testing.assert_allclose(tables[0]["score"], tables[1]["score"], atol=1e-6)


def test_without_labels_nothing_is_judged_and_titles_are_shown(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = CONFIG.replace('label = "class"\n', "").replace('[queries]\npath = "queries.parquet"\n', "")
    (folder / "topkin.toml").write_text(config)
    assert main(["run", *AS_OF]) == 0
    assert "not judged: items have no label; items.label names its column" in capsys.readouterr().err
    page = Path(published(folder).folder("report"), "report.html").read_text()
    assert "Not judged" in page
    assert "Half of them were found rightly" not in page
    assert main(["match", "queries.parquet"]) == 2
    assert "a match needs a least cosine, the run has none: items have no label" in capsys.readouterr().err


def test_items_alone_are_judged_among_each_other(folder: Path) -> None:
    (folder / "topkin.toml").write_text(CONFIG.replace('[queries]\npath = "queries.parquet"\n', ""))
    assert main(["run", *AS_OF]) == 0
    _, vectors, labels = expected("item", 2, 60)
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -2)
    right = np.mean([labels[n] == own for n, own in zip(cosines.argmax(axis=1), labels, strict=True)])
    metrics = storage.read_json(storage.join(published(folder).folder("evaluate"), "metrics.json"))
    assert metrics["retrieval"]["recall_any@1"] == pytest.approx(right)
    assert metrics["judged_by"] == "items"


def test_the_gate_keeps_the_published_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", *AS_OF]) == 0
    before = published(folder)
    gates = ["publish.min_embedded=1.0", "publish.min_items=1000", "similar.items=3"]
    assert main(["run", *AS_OF, *(word for gate in gates for word in ("--set", gate))]) == 4
    printed = capsys.readouterr().err
    assert "60 items are in the index; publish.min_items asks for 1,000" in printed
    assert "60 of 61 items have a vector in the index, 98.4 %; publish.min_embedded asks for 100 %" in printed
    assert published(folder) == before


TRAINED = CONFIG.replace('[encoder]\npath = "flat.keras"\n', '[train]\nmethod = "labels"\nepochs = 1\n').replace(
    'kind = "image" }', 'kind = "image", size = [6, 6] }'
)


def test_an_encoder_is_trained_by_one_section_and_then_kept(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "topkin.toml").write_text(TRAINED)
    assert main(["run", *AS_OF]) == 0
    assert "by labels, am_softmax" in capsys.readouterr().err
    run = published(folder)
    page = Path(run.folder("report"), "report.html").read_text()
    assert "Trained by labels with am_softmax, 1 epochs" in page
    encoder = Path(run.folder("train"), "encoder")
    assert {file.name for file in encoder.iterdir()} == {"item.keras", "signature.json"}
    assert main(["embed", "--encoder", str(encoder), "--items", "queries.parquet", "--id", "sku", "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["embedded"] == 20  # its signature names the column of the user's own table
    (folder / "topkin.toml").write_text(
        CONFIG.replace("flat.keras", str(encoder))
        .replace("[encoder.inputs]", "[encoder.inputs] # as saved")
        .replace('image = { column = "photo", kind = "image" }', "")
    )
    assert main(["run", *AS_OF]) == 0
    signature = storage.read_json(storage.join(published(folder).folder("train"), "encoder", "signature.json"))
    assert signature["encoder"] == again["encoder"]


def test_vectors_made_elsewhere_need_no_encoder(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ids, vectors, labels = expected("item", 2, 60)
    lists = pa.array([*(3 * vectors).tolist(), [1.0], None], pa.list_(pa.float64()))
    names = pa.array([*ids, "short", "none"])
    pq.write_table(pa.table({"sku": names, "emb": lists, "class": [*labels, "x", "x"]}), "vectors.parquet")
    config = (
        '[items]\npath = "vectors.parquet"\nitem_id = "sku"\nvector = "emb"\nlabel = "class"\n[similar]\nitems = 2\n'
    )
    (folder / "topkin.toml").write_text(config)
    assert main(["run", *AS_OF]) == 0
    printed = capsys.readouterr().err
    assert "items: 1 without a vector, for vector (emb) has not 5 numbers" in printed
    assert "items: 1 without a vector, for vector (emb) is missing" in printed
    near = pq.read_table(Path(published(folder).folder("similar"), "similar_items")).to_pylist()
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -2)
    for place, own in enumerate(ids):
        scores = [row["score"] for row in near if row["item_id"] == own]
        np.testing.assert_allclose(scores, np.sort(cosines[place])[::-1][:2], atol=1e-5)
    assert main(["match", "vectors.parquet", "--threshold", "0.9999"]) == 0
    assert matches(folder)["item003"]["item_id"] == "item003"
    assert main(["check", "--set", "items.vector=class"]) == 3
    assert "class" in capsys.readouterr().err
    assert main(["run", *AS_OF, "--set", "train.method=labels", "--set", "encoder.inputs.x=emb"]) == 2
    assert "items.vector takes the place of an encoder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message", "code"),
    [
        (["run", "--dry-run", "--set", "encoder.inputs.image.column=foto"], "the table has no 'foto'", 3),
        (
            ["run", "--dry-run", "--set", "run.worker_memory=0.001"],
            "more memory a worker than run.worker_memory",
            2,
        ),
        (["run", "--dry-run", "--set", "run.parts=9999"], "run.parts must be at most 1,000 for 82 rows of", 2),
        (["run", *AS_OF, "--set", "run.parts=9999"], "run.parts must be at most 1,000 for 82 rows of the inputs", 2),
        (["run", "--set", "encoder.path="], "items alone need an encoder: set encoder.path to a trained .keras", 2),
        (["run", "--set", "train.method=labels", "--set", "items.label="], "learns from labels: set items.label to", 2),
        (["recommend", *AS_OF], "a run over items alone has the stages prepare, train, embed, index, similar", 2),
        (["backtest"], "is of items alone, without [purchases]", 2),
        (["run", *AS_OF, "--set", "items.label="], "queries are judged by the items' label: set items.label", 2),
        (["run", *AS_OF, "--set", "items.lable=class"], "did you mean items.label", 2),
        (["run", *AS_OF, "--set", "recommend.k=5"], "[recommend] is for a run over purchases: add [purchases], or", 2),
        (["run", *AS_OF, "--set", "encoder.path=none.keras"], "none.keras is not there: save the model by", 3),
        (["check", "--set", "encoder.inputs.image.column=foto"], "the table has no 'foto', did you mean 'photo'", 3),
        (["check", "--set", "encoder.inputs.imag.column=photo"], "the model has no input 'imag'", 3),
        (["check", "--set", "items.label=clas"], "has no column 'clas' (items.label)", 3),
        (["run", *AS_OF, "--set", "items.rules.none=false"], "got 100.0 % of 62: none 62; look at items.rules", 3),
        (["match", "queries.parquet"], "has no finished run to show", 1),
    ],
)
def test_wrong_use_is_answered_with_the_cure(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str, code: int
) -> None:
    assert main(arguments) == code
    shown = capsys.readouterr().err
    assert message in shown
    assert "Traceback" not in shown
    assert "not a failure that topkin knows" not in shown


def test_vectors_of_nothing_are_not_published_and_matched_with_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lists = pa.array([[], [0.0, 0.0], [0.0, 0.0], None], pa.list_(pa.float64()))
    pq.write_table(pa.table({"sku": [*"abcd"], "emb": lists, "class": [*"xxxx"]}), "zero.parquet")
    config = '[items]\npath = "zero.parquet"\nitem_id = "sku"\nvector = "emb"\nlabel = "class"\n[evaluate]\nk = [5]\n'
    (folder / "topkin.toml").write_text(config)
    assert main(["run", *AS_OF]) == 4
    assert "0 items are in the index; publish.min_items asks for 1" in capsys.readouterr().err
    assert main(["match", "zero.parquet", "--threshold", "0"]) == 2
    assert "holds no item: nothing can be matched" in capsys.readouterr().err


@pytest.mark.parametrize("train", ["", "labels", "self_supervised"])
def test_a_run_is_planned_before_it_is_done(folder: Path, capsys: pytest.CaptureFixture[str], train: str) -> None:
    more = [*UNTRAINED, f"train.method={train}"] if train else []
    assert main(["run", "--dry-run", "--json", *more]) == 0
    plan = json.loads(capsys.readouterr().out)
    counts, stages = plan["counts"], {stage["stage"]: stage for stage in plan["stages"]}
    assert (counts["items"], counts["queries"], counts["row_bytes"] >= 36) == (62, 20, True)
    assert counts["dim"] == {"": DIM, "labels": 64, "self_supervised": 256}[train]
    assert counts["row_seconds"] > 0
    assert list(stages) == list(ORDERS["items"])[:-1]
    assert (stages["train"]["cpu_seconds"] > 0) == bool(train)
    assert stages["similar"]["flops"] == 2 * counts["dim"] * 62**2
    assert not (folder / "topkin-out" / "runs").exists()
    assert main(["run", "--dry-run", *more]) == 0
    assert "62 items, 20 queries" in capsys.readouterr().out


def test_a_zero_vector_is_near_to_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", *AS_OF]) == 0
    dark = table("item", 2, 60).slice(0, 1).set_column(1, "photo", pa.array([bytes(36)], pa.binary(36)))
    pq.write_table(pa.concat_tables([table("item", 2, 60).slice(1, 2), dark]), "new.parquet")
    capsys.readouterr()
    assert main(["match", "new.parquet", "--threshold", "-1"]) == 0
    out = capsys.readouterr().out
    assert "2 of 3 are a known item" in out
    assert "1  have a zero vector, which is near to nothing" in out
    row = matches(folder)["item000"]
    assert (row["item_id"], row["label"], row["nearest_id"], row["score"]) == (None, None, None, 0)


def test_what_a_match_lacks_is_said_with_what_can_be_pasted(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", *AS_OF]) == 0
    known = table("item", 2, 60).slice(10, 3).rename_columns(["sku", "picture", "class", "name"])
    pq.write_table(known.select(["sku", "class", "picture"]), "new.parquet")
    match = ["match", "new.parquet", "--threshold", "0.9"]
    capsys.readouterr()
    assert main(match) == 3
    printed = capsys.readouterr().err
    assert (
        "has no column photo, which feeds the encoder's input 'image'; its columns are sku, class, picture" in printed
    )
    cure = printed.partition("as in --set ")[2].split()[0]
    assert cure == "queries.normalise.photo=picture"
    assert main([*match, "--set", cure]) == 0
    assert main([*match, "--force", "--id", "code", "--set", cure]) == 3
    printed = capsys.readouterr().err
    assert (
        "has no column 'code' (--id); its columns are picture, photo, sku, class: name one, as in --id COL" in printed
    )
    assert main(["match", "nowhere.parquet", "--threshold", "0"]) == 3
    assert "QUERIES" in capsys.readouterr().err
    own = CONFIG.replace('[queries]\npath = "queries.parquet"\n', "")
    (folder / "topkin.toml").write_text(own)
    assert main([*match, "--force"]) == 3
    assert "--set items.normalise.photo=picture" in capsys.readouterr().err


def test_the_same_inputs_at_another_date_are_done_already(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", *AS_OF]) == 0
    first = published(folder)
    capsys.readouterr()
    assert main(["run", "--as-of", "2026-01-02"]) == 0
    second = published(folder)
    assert capsys.readouterr().err.count("as before") == 6
    assert second.run_id != first.run_id
    differ = {stage for stage in first.folders if second.folders[stage] != first.folders[stage]}
    assert differ == {"report"}
    assert "2026-01-02" in Path(second.folder("report"), "report.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "message", "code"),
    [
        (["--set", "items.label=shop"], "shop has 1 label: two are needed to judge by", 0),
        (
            ["--set", "items.label=shop", "--set", "train.method=labels", "--set", "encoder.path="],
            "method 'labels' needs two labels, items.label, shop has 1 label: name another column",
            3,
        ),
        (
            [
                "--set",
                "train.method=self_supervised",
                "--set",
                "encoder.path=",
                "--set",
                "encoder.inputs.image.kind=vector",
            ],
            "encoder.inputs.image of kind 'vector' takes lists, its column is",
            3,
        ),
        (
            [*UNTRAINED, "train.method=labels", "--set", "train.loss={name = 'nt_xent', temperature = -1.0}"],
            "train.loss = 'nt_xent': temperature must be above 0",
            2,
        ),
        (["--set", "encoder.inputs.image.column=price"], "takes raw pixels or files as bytes", 3),
    ],
)
def test_check_sees_what_training_and_judging_need(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str, code: int
) -> None:
    for name in ("items", "queries"):
        rows = pq.read_table(f"{name}.parquet")
        rows = rows.append_column("shop", [["here"] * len(rows)]).append_column("price", [[1.5] * len(rows)])
        pq.write_table(rows, f"{name}.parquet")
    assert main(["check", *arguments]) == code
    shown = capsys.readouterr()
    assert message in " ".join(f"{shown.out} {shown.err}".split())


def test_a_run_over_purchases_matches_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "topkin.toml").write_text('[purchases]\npath = "p.parquet"\n')
    assert main(["match", "queries.parquet"]) == 2
    assert "must be of items alone, it has [purchases]" in capsys.readouterr().err

"""The lists of a catalogue cut into shards: byte for byte those of one worker that holds all of it."""

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from topkin.artifacts import schemas, storage
from topkin.artifacts.embeddings import vector_column
from topkin.artifacts.partition import split_by_partition
from topkin.config.sections import Settings
from topkin.encoding.blocks import Block
from topkin.linalg.cosine import unit_rows
from topkin.pipelines import recommend
from topkin.pipelines.engine.job import Job, run_pipeline
from topkin.recommend.sharded import shard_bounds

AS_OF, PARTS, USERS, ITEMS, DIM = datetime(2021, 3, 1), 3, 70, 60, 6
ENCODER = "e" * 64
PROCESSES = ("--direct_running_mode=multi_processing", "--direct_num_workers=2")


def vectors(rng: np.random.Generator, n: int) -> np.ndarray:
    """Unit rows of few values, so that many scores tie, across shards too; some are zero."""
    return unit_rows(rng.integers(-1, 2, (n, DIM)).astype(np.float32))


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run up to the embeddings, its tables written by hand."""
    made, rng = tmp_path_factory.mktemp("shop"), np.random.default_rng(5)
    t = pa.int64()
    baskets = [rng.choice(ITEMS - 3, n, replace=True) for n in rng.integers(0, 12, USERS)]
    users = {
        "user_id": pa.array([2**53 + 1 + n for n in range(USERS)], t),
        "items": [b.tolist() for b in baskets],
        "times": [[AS_OF - timedelta(days=float(d)) for d in -np.sort(-rng.uniform(0.5, 60, len(b)))] for b in baskets],
        "weights": [[1.0] * len(b) for b in baskets],
        "segment": [("north", "south", None)[n % 3] for n in range(USERS)],
    }
    histories = split_by_partition(pa.table(users, schema=schemas.histories(t, t)), "user_id", PARTS)
    of_users = schemas.with_encoder(schemas.user_embeddings(t, DIM), ENCODER)
    of_items = schemas.with_encoder(schemas.item_embeddings(t, DIM), ENCODER)
    scored, pooled, bounds = vectors(rng, ITEMS), vectors(rng, ITEMS), shard_bounds(ITEMS, PARTS)
    for part in range(PARTS):
        name, rows = storage.part_name(part, PARTS), slice(bounds[part], bounds[part + 1])
        table = histories[part].sort_by("user_id")
        items = [pa.array(np.arange(ITEMS)[rows]), vector_column(scored[rows]), vector_column(pooled[rows])]
        preferences = [table["user_id"], vector_column(vectors(rng, len(table)))]
        storage.write_parquet(table, str(made / "prepared" / "histories" / name))
        storage.write_parquet(
            pa.Table.from_arrays(items, schema=of_items), str(made / "embeddings" / "items" / name), row_group_rows=7
        )
        storage.write_parquet(
            pa.Table.from_arrays(preferences, schema=of_users), str(made / "embeddings" / "users" / name)
        )
    sold = np.bincount(np.concatenate(baskets), minlength=ITEMS)
    catalogue = {
        "item_id": np.arange(ITEMS),
        "title": pa.nulls(ITEMS, pa.string()),
        "category": pa.array([("a", "b", None)[n % 3] for n in range(ITEMS)]),
        "price": pa.nulls(ITEMS, pa.float32()),
        "available": [n % 10 != 4 for n in range(ITEMS)],
        "events": sold,
        "users": sold,
        "recent": sold // 3,
        "first_sale": pa.nulls(ITEMS, schemas.TIME),
        "last_sale": pa.nulls(ITEMS, schemas.TIME),
    }
    table = pa.table(catalogue, schema=schemas.catalogue(t))
    storage.write_parquet(table, str(made / "prepared" / "catalogue.parquet"))
    block = Block(name="trained", dim=DIM, weight=1, inverse_popularity=0.5, half_life_days=30, spread=(1.0,) * DIM)
    told = {"encoder": ENCODER, "dim": DIM, "blocks": [block.to_json()], "history_length": 5, "users": USERS}
    storage.write_json(told, str(made / "embeddings" / "vectors.json"))
    storage.write_json({"encoder": ENCODER}, str(made / "model" / "signature.json"))
    storage.write_json({}, str(made / "model" / "repurchase.json"))
    return made


def lists(
    shop: Path, shards: int, flags: tuple[str, ...] = (), **rules: object
) -> tuple[Path, dict[str, dict[str, int]]]:
    """The folder of the lists, and the counts."""
    from topkin.transforms.recommend import fit

    sections = {"run": {"output": str(shop), "parts": PARTS}, "recommend": {"k": 8, "min_history": 2, **rules}}
    settings = Settings.model_validate({"purchases": {"path": "nowhere"}, **sections})
    out = shop / f"{shards}-{'-'.join(map(str, rules.values()))}-{len(flags)}"
    folders = {"prepare": str(shop / "prepared"), "train": str(shop / "model"), "embed": str(shop / "embeddings")}
    scratch = str(out / "scratch")
    job = Job(settings=settings, as_of=AS_OF, out=str(out / "lists"), folders=folders, scratch=scratch)
    inputs = replace(recommend.inputs_of(job), shards=shards)
    fit(inputs)
    lists = recommend.transform(job, inputs)
    run_pipeline(lists, flags)
    return out / "lists", storage.read_json(lists.tally)


@pytest.mark.parametrize(
    "rules", [{}, {"bought": "cooldown"}, {"bought": "boost"}, {"because": 0}, {"k": 100}], ids=str
)
@pytest.mark.parametrize("shards", [2, 7, ITEMS + 5])
def test_any_number_of_shards_gives_the_same_files_and_counts(shop, shards, rules):
    one, counts = lists(shop, 1, **rules)
    cut, of_cut = lists(shop, shards, **rules)
    names = storage.files(str(one))
    assert names == storage.files(str(cut))
    assert len(names) == 2 * PARTS + (rules.get("bought") == "boost")  # and what all users buy again
    assert [n for n in names if (one / n).read_bytes() != (cut / n).read_bytes()] == []
    assert counts == of_cut
    assert counts["source"]["model"] > 0 < counts["source"]["segment_recent_popularity"]


@pytest.mark.parametrize("flags", [(), ("--direct_runner_bundle_repeat=2",)], ids=["once", "repeated"])
def test_shards_and_parts_give_the_same_lists_of_a_second_stage(shop, flags):
    weights = {"encoder": 1.0, "item_knn_position": 0.8, "popularity": 0.1}
    storage.write_json({"weights": weights}, str(shop / "model" / "blend.json"))
    try:
        one, counts = lists(shop, 1, flags, sources=("popularity", "item_knn_position"))
        cut, of_cut = lists(shop, 4, flags, sources=("popularity", "item_knn_position"))
    finally:
        storage.remove_files(str(shop / "model"), ["blend.json"])
    assert [n for n in storage.files(str(one)) if (one / n).read_bytes() != (cut / n).read_bytes()] == []
    assert counts == of_cut
    table = storage.read_parts(str(one / "recommendations" / "date=2021-03-01"))
    model = table.filter(pc.equal(table["source"], "model"))
    assert set(model["decided"].to_pylist()) == {"encoder", "item_knn_position"}
    for user in model["user_id"].unique():
        final = model.filter(pc.equal(model["user_id"], user))["final"].to_pylist()
        assert final == sorted(final, reverse=True)
        assert max(final) <= 1
    assert len(np.unique(np.diff(model["score"].to_numpy()) < 0)) == 2  # cosines rise and fall
    fallen = table.filter(pc.not_equal(table["source"], "model"))
    assert fallen["final"].null_count == fallen["decided"].null_count == len(fallen) > 0


@pytest.mark.parametrize("flags", [("--direct_runner_bundle_repeat=2",), PROCESSES], ids=["repeated", "processes"])
def test_shards_give_the_same_files_however_they_are_run(shop, flags):
    one, counts = lists(shop, 1)
    cut, of_cut = lists(shop, 4, flags)
    assert [n for n in storage.files(str(one)) if (one / n).read_bytes() != (cut / n).read_bytes()] == []
    assert counts == of_cut


def test_a_worker_of_shards_holds_no_vectors_until_it_searches(shop):
    from topkin.transforms.recommend import ListMaker, ShardSearcher

    settings = Settings.model_validate({"purchases": {"path": "nowhere"}, "run": {"parts": PARTS}})
    folders = {"prepare": str(shop / "prepared"), "train": str(shop / "model"), "embed": str(shop / "embeddings")}
    sources = recommend.inputs_of(Job(settings=settings, as_of=AS_OF, out="unused", folders=folders))
    items = ShardSearcher(replace(sources, shards=2)).items
    held = [a for of in (items.context, items.scores) for a in vars(of).values() if isinstance(a, np.ndarray)]
    assert {array.ndim for array in held} == {1}
    assert isinstance(ListMaker(sources).items.context.vectors, np.ndarray)

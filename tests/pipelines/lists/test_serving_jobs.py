"""The jobs from a trained encoder to published tables: embed, index, recommend, similar.

One small shop with an encoder of random weights: what the jobs do does not depend on what it learned.
"""

import copyreg
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from topkin.artifacts import manifest, schemas, storage
from topkin.artifacts.embeddings import read_items, read_users
from topkin.artifacts.partition import split_by_partition
from topkin.config.sections import Settings
from topkin.errors import ArtifactError, InputError
from topkin.linalg.cosine import unit_rows
from topkin.pipelines import embed, index, recommend, similar
from topkin.pipelines.engine.job import Job
from topkin.search.hnsw.files import load_index

AS_OF = datetime(2021, 3, 1)
PARTS, USERS, ITEMS = 3, 50, 60
KINDS: dict[str, Callable[[str, int], object]] = {
    "string": lambda what, n: f"{what}{n:03d}é",
    "int64": lambda what, n: 2**53 + 1 + n,
    "binary": lambda what, n: b"\xff\x00" + what.encode() + b"%03d" % n,
}


def write_prepared(folder: str, kind: str) -> None:
    """Histories and a catalogue as the stage prepare leaves them."""
    rng = np.random.default_rng(5)
    name = KINDS[kind]
    t = pa.array([name("u", 0)]).type
    lengths = rng.integers(0, 12, USERS)
    baskets = [np.minimum(rng.geometric(0.06, n), ITEMS - 3) for n in lengths]  # the last items were never sold
    days = [np.sort(rng.uniform(0.5, 60, n))[::-1] for n in lengths]
    histories = pa.table(
        {
            "user_id": pa.array([name("u", n) for n in range(USERS)], t),
            "items": pa.array([[name("i", int(i)) for i in b] for b in baskets], pa.list_(t)),
            "times": pa.array([[AS_OF - timedelta(days=float(d)) for d in ds] for ds in days], pa.list_(schemas.TIME)),
            "weights": pa.array([[1.0] * int(n) for n in lengths], pa.list_(pa.float32())),
            "segment": pa.array([("north", "south", None)[n % 3] for n in range(USERS)], pa.string()),
        },
        schema=schemas.histories(t, t),
    )
    whole = split_by_partition(histories, "user_id", PARTS)
    for part in range(PARTS):
        table = whole.get(part, histories.slice(0, 0)).sort_by("user_id")
        storage.write_parquet(table, storage.join(folder, "histories", storage.part_name(part, PARTS)))
    items, ages = np.concatenate(baskets).astype(int), np.concatenate(days)
    first, last = [None] * ITEMS, [None] * ITEMS
    catalogue = pa.table(
        {
            "item_id": pa.array([name("i", n) for n in range(ITEMS)], t),
            "title": pa.array([f"thing {n % 7} of {n % 5}" if n != 59 else None for n in range(ITEMS)]),
            "category": pa.array([("a", "b")[n % 2] if n != 59 else None for n in range(ITEMS)]),
            "price": pa.array([float(n) if n != 59 else None for n in range(ITEMS)], pa.float32()),
            "available": pa.array([n % 10 != 4 for n in range(ITEMS)]),
            "events": pa.array(np.bincount(items, minlength=ITEMS)),
            "users": pa.array([sum(n in b for b in baskets) for n in range(ITEMS)], pa.int64()),
            "recent": pa.array(np.bincount(items[ages <= 7], minlength=ITEMS)),
            "first_sale": pa.array(first, schemas.TIME),
            "last_sale": pa.array(last, schemas.TIME),
        },
        schema=schemas.catalogue(t),
    )
    storage.write_parquet(catalogue, storage.join(folder, "catalogue.parquet"))


def settings_of(output: str, **sections: dict[str, object]) -> Settings:
    """The settings of the small shop."""
    values = {
        "run": {"output": output, "parts": PARTS, "seed": 1},
        "embed": {"batch_size": 16, "history_length": 5},
        "index": {"shard_items": 40, "m": 8, "ef_construction": 50},
        "recommend": {"k": 8, "min_history": 2, "because": 2},
        "similar": {"items": 4, "users": 3, "bought": 5, "min_support": 2},
    }
    merged = {name: {**values.get(name, {}), **sections.get(name, {})} for name in {*values, *sections}}
    return Settings(purchases={"path": "nowhere"}, **merged)


def job_of(run: Path, out: str, settings: Settings | None = None, beam: tuple[str, ...] = ()) -> Job:
    folders = {
        "prepare": str(run / "prepared"),
        "train": str(run / "model"),
        "embed": str(run / "embeddings"),
        "index": str(run / "index"),
    }
    return Job(settings=settings or settings_of(str(run)), as_of=AS_OF, out=str(run / out), folders=folders, beam=beam)


@pytest.fixture(scope="module", params=sorted(KINDS))
def run(request, tmp_path_factory, write_model) -> Path:
    """A run folder with all four stages done, for each type of ids."""
    folder = tmp_path_factory.mktemp(f"run-{request.param}")
    write_prepared(str(folder / "prepared"), request.param)
    write_model(str(folder / "model"), ITEMS - 2, storage.read_parquet(str(folder / "prepared" / "catalogue.parquet")))
    summaries = {
        stage.STAGE.name: stage.STAGE.execute(job_of(folder, out))
        for stage, out in (
            (embed, "embeddings"),
            (index, "index"),
            (recommend, "recommendations"),
            (similar, "similar"),
        )
    }
    storage.write_json(summaries, str(folder / "summaries.json"))
    return folder


@pytest.fixture(scope="module")
def shop(tmp_path_factory, write_model) -> Path:
    """A run folder up to the index, with string ids, for jobs with other settings."""
    folder = tmp_path_factory.mktemp("shop")
    write_prepared(str(folder / "prepared"), "string")
    write_model(str(folder / "model"), ITEMS - 2, storage.read_parquet(str(folder / "prepared" / "catalogue.parquet")))
    embed.STAGE.execute(job_of(folder, "embeddings"))
    index.STAGE.execute(job_of(folder, "index"))
    return folder


def same_files(a: Path, b: Path) -> bool:
    names = storage.files(str(a))
    return names == storage.files(str(b)) and all((a / n).read_bytes() == (b / n).read_bytes() for n in names)


def histories_of(run: Path) -> pa.Table:
    return storage.read_parts(str(run / "prepared" / "histories"))


# embed


def test_vectors_are_those_of_the_encoder_in_catalogue_and_history_order(run):
    from topkin.interactions import Interactions
    from topkin.models.two_tower.serialization import load

    encoder = load(str(run / "model"))
    catalogue = storage.read_parquet(str(run / "prepared" / "catalogue.parquet"))
    items = read_items(str(run / "embeddings"), encoder.hash)
    vectors, in_vectors = encoder.encode_items(catalogue)
    assert items.ids.equals(catalogue["item_id"].combine_chunks())
    assert np.array_equal(items.vectors, vectors)
    assert np.array_equal(items.in_vectors, in_vectors)
    for part in range(PARTS):
        name = storage.part_name(part, PARTS)
        histories = storage.read_parquet(str(run / "prepared" / "histories" / name))
        ids, got = read_users(str(run / "embeddings"), part, PARTS, encoder.hash)
        history = Interactions.from_histories(histories, catalogue["item_id"], AS_OF)
        assert ids.equals(histories["user_id"])
        assert np.array_equal(got, encoder.encode_users(history, in_vectors, np.asarray(catalogue["users"]), length=5))
        assert not got[np.diff(history.indptr) == 0].any()


def test_the_summary_of_vectors_counts_those_without(run):
    summary = storage.read_json(str(run / "embeddings" / "vectors.json"))
    empty = sum(not items for items in histories_of(run)["items"].to_pylist())
    assert (summary["items"], summary["users"], summary["dim"], summary["history_length"]) == (ITEMS, USERS, 16, 5)
    assert (summary["items_without_vector"], summary["users_without_vector"]) == (1, empty)  # the last item is unknown
    assert summary["users_not_finite"] == summary["items_not_finite"] == 0
    assert summary["encoder"] == storage.read_json(str(run / "model" / "signature.json"))["encoder"]


def test_vectors_that_are_no_numbers_are_set_aside_and_counted():
    from topkin.telemetry.counters import sum_counts
    from topkin.transforms.embed import encode_items

    class Broken:
        dim, hash = 2, "e"

        def encode_items(self, rows, *, batch_size):
            if batch_size > 4:
                raise MemoryError
            vectors = np.ones((len(rows), 2), np.float32)
            vectors[1] = np.nan
            return vectors, np.ones((len(rows), 2), np.float32)

    table, counts = encode_items(Broken(), pa.table({"item_id": ["a", "b", "c"]}), 16, (MemoryError,))
    assert table["vector"].to_pylist() == table["in_vector"].to_pylist() == [[1, 1], [0, 0], [1, 1]]
    assert sum_counts([counts]) == {"items": {"all": 3, "without_vector": 1, "not_finite": 1}}


def test_embedding_again_and_repeating_bundles_gives_the_same_bytes(shop):
    again = job_of(shop, "again-embeddings", beam=("--direct_runner_bundle_repeat=2",))
    embed.STAGE.execute(again)
    assert same_files(shop / "embeddings", shop / "again-embeddings")


@pytest.mark.slow
def test_embedding_in_several_processes_gives_the_same_bytes(shop):
    flags = ("--direct_running_mode=multi_processing", "--direct_num_workers=2")
    embed.STAGE.execute(job_of(shop, "spread-embeddings", beam=flags))
    assert same_files(shop / "embeddings", shop / "spread-embeddings")


# index


def test_the_index_holds_the_items_with_a_vector_and_tells_its_recall(run):
    info = storage.read_json(str(run / "index" / "index.json"))
    loaded = load_index(str(run / "index"))
    items = read_items(str(run / "embeddings"), info["encoder"])
    assert (info["items"], info["indexed"], info["without_vector"]) == (ITEMS, ITEMS - 1, 1)
    assert len(info["shards"]) == 2
    assert info["recall"]["source"] == "users"
    assert info["recall"]["recall@10"] > 0.9
    assert loaded.item_ids.equals(items.ids.slice(0, ITEMS - 1))
    assert np.array_equal(loaded.vectors, items.vectors[:-1])


# recommend


def rules_hold(run: Path, out: str, settings: Settings) -> pa.Table:
    """No user gets a bought, unavailable or repeated item; every short list is explained."""
    catalogue = storage.read_parquet(str(run / "prepared" / "catalogue.parquet"))
    unavailable = set(catalogue.filter(pa.compute.invert(catalogue["available"]))["item_id"].to_pylist())
    folder = run / out
    table = storage.read_parts(str(folder / "recommendations" / "date=2021-03-01"))
    shorts = {r["user_id"]: r for r in storage.read_parts(str(folder / "short_lists")).to_pylist()}
    bought = {r["user_id"]: set(r["items"]) for r in histories_of(run).to_pylist()}
    listed: dict[object, list[object]] = {user: [] for user in bought}
    for row in table.to_pylist():
        listed[row["user_id"]].append(row["item_id"])
        assert row["rank"] == len(listed[row["user_id"]])
        assert set(row["because"]) <= bought[row["user_id"]]
    for user, items in listed.items():
        assert not set(items) & (bought[user] | unavailable)
        assert len(set(items)) == len(items)
        assert (len(items) < settings.recommend.k) == (user in shorts)
        if user in shorts:
            assert shorts[user]["got"] == len(items)
    return table


def test_published_lists_keep_the_rules_and_ids_survive(run):
    table = rules_hold(run, "recommendations", settings_of("out"))
    t = histories_of(run).schema.field("user_id").type
    assert table.schema.equals(schemas.recommendations(t, t))
    assert set(table["user_id"].to_pylist()) == set(histories_of(run)["user_id"].to_pylist())


def test_published_lists_are_those_of_the_pure_function(run, lists_in_memory):
    job = job_of(run, "recommendations")
    inputs = recommend.inputs_of(job)
    transform = recommend.transform(job, {"": inputs})
    for part, lists in enumerate(lists_in_memory(inputs)):
        name = storage.part_name(part, PARTS)
        assert storage.read_parquet(storage.join(transform.lists, name)).equals(lists.recommendations)
        assert storage.read_parquet(storage.join(transform.short_lists, name)).equals(lists.short_lists)


def test_the_summary_of_lists_counts_what_the_tables_hold(run):
    summary = storage.read_json(str(run / "recommendations" / "lists.json"))
    table = storage.read_parts(str(run / "recommendations" / "recommendations"))
    short = storage.read_parts(str(run / "recommendations" / "short_lists"))
    assert summary["rows"] == len(table) == sum(summary["by_source"].values())
    assert summary["short"] == len(short) == sum(summary["by_reason"].values())
    assert summary["users_with_list"] == len(table["user_id"].unique())
    sources = table["source"].to_pylist()
    assert summary["by_source"] == {name: sources.count(name) for name in schemas.SOURCES}
    assert summary["by_source"]["segment_recent_popularity"] > 0
    assert sum(summary["fallback"].values()) > 0
    assert summary["items_allowed"] == ITEMS - 6


def test_every_table_and_file_carries_the_encoder(run):
    encoder = storage.read_json(str(run / "model" / "signature.json"))["encoder"]
    names = [n for n in storage.files(str(run)) if n.endswith(".parquet") and not n.startswith(("prepared", "model"))]
    assert len(names) == 2 * PARTS + 1 + 2 * PARTS + 3 * PARTS
    for name in names:
        assert schemas.encoder_of(pq.read_schema(run / name)) == encoder, name


def test_no_scratch_is_left_in_a_sealed_folder(run, tmp_path):
    for stage in ("embeddings", "recommendations", "similar"):
        shutil.copytree(run / stage, tmp_path / stage)
        assert not list((tmp_path / stage).rglob(".*"))
        manifest.seal(str(tmp_path / stage), stage=stage, key="k", summary={})


@pytest.mark.parametrize(
    "flags",
    [("--direct_runner_bundle_repeat=2",), ("--direct_running_mode=multi_processing", "--direct_num_workers=2")],
    ids=["repeated bundles", "processes"],
)
def test_lists_and_neighbours_are_byte_equal_however_they_are_run(shop, flags):
    for job, out in ((recommend, "recommendations"), (similar, "similar")):
        if not (shop / out).exists():
            job.STAGE.execute(job_of(shop, out))
        shutil.rmtree(shop / f"{out}-again", ignore_errors=True)
        job.STAGE.execute(job_of(shop, f"{out}-again", beam=flags))
        assert same_files(shop / out, shop / f"{out}-again")


def test_lists_of_bought_items_are_ranked_by_what_all_users_buy_again(shop, lists_in_memory):
    chosen = {"personal": 2.0, "repeat": 0.25, "recent": 0.0, "due": 0.0}
    storage.write_json({"keep": chosen}, str(shop / "model" / "repurchase.json"))
    settings = settings_of(str(shop), recommend={"bought": "keep", "personal_repeat": 1.0})
    for out, flags in (("kept", ()), ("kept-again", ("--direct_runner_bundle_repeat=2",))):
        recommend.STAGE.execute(job_of(shop, out, settings, flags))
    assert same_files(shop / "kept", shop / "kept-again")
    summary = storage.read_json(str(shop / "kept" / "lists.json"))
    assert summary["repurchase"] == {**chosen, "repeat": 1.0, "fade": 0.0}
    job = job_of(shop, "kept", settings)
    inputs = recommend.inputs_of(job)
    folder = recommend.transform(job, {"": inputs}).lists
    own = 0
    for part, lists in enumerate(lists_in_memory(inputs)):
        table = storage.read_parquet(storage.join(folder, storage.part_name(part, PARTS)))
        assert table.equals(lists.recommendations)
        own += sum(times > 0 for times in table["times_bought"].to_pylist())
    assert own
    counts = storage.read_parquet(str(shop / "kept" / "repurchase.parquet"))
    assert schemas.encoder_of(counts.schema) == inputs.encoder
    catalogue = storage.read_parquet(str(shop / "prepared" / "catalogue.parquet"))
    users = catalogue["users"].to_pylist()
    assert counts["buyers"].to_pylist() == [users[i] for i in counts["item"].to_pylist()] == [u for u in users if u]


def test_lists_through_the_index_keep_the_same_rules(shop):
    settings = settings_of(str(shop), recommend={"search": "index"})
    recommend.STAGE.execute(job_of(shop, "through-index", settings))
    through = rules_hold(shop, "through-index", settings)
    recommend.STAGE.execute(job_of(shop, "exact"))
    exact = rules_hold(shop, "exact", settings)
    assert len(through) == len(exact)
    pairs = [{(r["user_id"], r["item_id"]): r["score"] for r in t.to_pylist()} for t in (through, exact)]
    shared = pairs[0].keys() & pairs[1].keys()
    assert len(shared) > 0.95 * len(exact)
    assert all(pairs[0][p] == pairs[1][p] for p in shared)


def test_allow_and_deny_lists_are_kept_by_lists_and_neighbours(shop, tmp_path):
    name = KINDS["string"]
    pq.write_table(
        pa.table({"item_id": [name("i", n) for n in range(20)] + ["no such item"]}), tmp_path / "allow.parquet"
    )
    pq.write_table(pa.table({"item_id": [name("i", n) for n in range(0, 20, 2)]}), tmp_path / "deny.parquet")
    rules = {"allow": str(tmp_path / "allow.parquet"), "deny": str(tmp_path / "deny.parquet")}
    settings = settings_of(str(shop), recommend=rules)
    summary = recommend.STAGE.execute(job_of(shop, "listed", settings))
    similar.STAGE.execute(job_of(shop, "listed-similar", settings))
    may = {name("i", n) for n in range(1, 20, 2)}
    table = rules_hold(shop, "listed", settings)
    assert set(table["item_id"].to_pylist()) <= may
    assert summary["by_reason"]["without the items that the user bought, fewer than k are left"] > 0
    content = storage.read_json(str(shop / "listed" / "lists.json"))
    assert content["listed_ids_not_in_catalogue"] == {"allow": 1, "deny": 0}
    for folder, column in (("similar_items", "neighbour_id"), ("neighbours_bought", "item_id")):
        assert set(storage.read_parts(str(shop / "listed-similar" / folder))[column].to_pylist()) <= may


def test_a_list_that_cannot_be_used_stops_the_job_with_its_name(shop, tmp_path):
    pq.write_table(pa.table({"item_id": [1, 2]}), tmp_path / "deny.parquet")
    settings = settings_of(str(shop), recommend={"deny": str(tmp_path / "deny.parquet")})
    with pytest.raises(InputError, match=r"recommend.deny = .*deny.parquet: column item_id must be of the catalogue's"):
        recommend.STAGE.execute(job_of(shop, "refused", settings))
    assert not (shop / "refused" / "recommendations").exists()


@pytest.mark.parametrize("search", ["exact", "index"])
def test_a_mix_of_encoders_is_refused(shop, tmp_path, search):
    for stage in ("prepared", "model", "embeddings", "index"):
        shutil.copytree(shop / stage, tmp_path / stage)
    signature = storage.read_json(str(tmp_path / "model" / "signature.json"))
    storage.write_json({**signature, "encoder": "f" * 64}, str(tmp_path / "model" / "signature.json"))
    with pytest.raises(ArtifactError, match=r"embeddings was made by encoder .* the run's model is ffff"):
        recommend.STAGE.execute(job_of(tmp_path, "lists"))
    summary = storage.read_json(str(tmp_path / "embeddings" / "vectors.json"))
    storage.write_json({**summary, "encoder": "f" * 64}, str(tmp_path / "embeddings" / "vectors.json"))
    from topkin.transforms.recommend import ListMaker

    settings = settings_of(str(tmp_path), recommend={"search": search})
    with pytest.raises(ArtifactError, match=r"part-00000-of-00003.parquet must be made by encoder ffff"):
        ListMaker(recommend.inputs_of(job_of(tmp_path, "lists", settings)))


def test_an_index_of_another_encoder_is_refused(shop, tmp_path):
    from topkin.transforms.recommend import ListMaker

    items = read_items(
        str(shop / "embeddings"), storage.read_json(str(shop / "embeddings" / "vectors.json"))["encoder"]
    )
    from topkin.search.hnsw.build import build_index

    settings = settings_of(str(shop), recommend={"search": "index"})
    build_index(items.vectors, str(tmp_path / "index"), settings.index, 0, ids=items.ids, encoder="f" * 64)
    job = job_of(shop, "lists", settings)
    job.folders["index"] = str(tmp_path / "index")
    with pytest.raises(ArtifactError, match=r"index was made by encoder ffff"):
        ListMaker(recommend.inputs_of(job))


# similar


def test_neighbours_are_those_of_one_look_at_everything(run):
    encoder = storage.read_json(str(run / "embeddings" / "vectors.json"))["encoder"]
    items = read_items(str(run / "embeddings"), encoder)

    def of(vectors):  # the two blocks as they weigh, and not what sells now
        closed, trained = unit_rows(vectors[:, :6]), unit_rows(vectors[:, 6:14])
        return unit_rows(np.column_stack([closed, np.float32(np.sqrt(0.7)) * trained]))

    preferences = of(items.vectors)
    available = np.asarray(storage.read_parquet(str(run / "prepared" / "catalogue.parquet"))["available"])
    scores = (preferences.astype(np.float64) @ preferences.T.astype(np.float64)).astype(np.float32)
    ids = items.ids.to_pylist()
    expected = [
        (ids[i], rank + 1, ids[j])
        for i in range(ITEMS - 1)
        for rank, j in enumerate(
            sorted((j for j in range(ITEMS - 1) if j != i and available[j]), key=lambda j: (-scores[i, j], j))[:4]
        )
    ]
    got = storage.read_parts(str(run / "similar" / "similar_items")).to_pylist()
    assert [(r["item_id"], r["rank"], r["neighbour_id"]) for r in got] == expected
    read = [read_users(str(run / "embeddings"), part, PARTS, encoder) for part in range(PARTS)]
    users = [u for ids, _ in read for u in ids.to_pylist()]
    vectors = of(np.concatenate([v for _, v in read])).astype(np.float64)
    scores = (vectors @ vectors.T).astype(np.float32)
    known = [n for n in range(USERS) if vectors[n].any()]
    nearest = {i: sorted((j for j in known if j != i), key=lambda j: (-scores[i, j], j))[:3] for i in known}
    got = storage.read_parts(str(run / "similar" / "similar_users")).to_pylist()
    assert [(r["user_id"], r["neighbour_id"]) for r in got] == [(users[i], users[j]) for i in known for j in nearest[i]]
    bought = {r["user_id"]: set(r["items"]) for r in histories_of(run).to_pylist()}
    may = {i for i, a in zip(ids, available, strict=True) if a}
    for i in known:
        total: dict[object, list[float]] = {}
        for j in nearest[i]:
            for item in bought[users[j]] & may - bought[users[i]] if scores[i, j] > 0 else ():
                total.setdefault(item, []).append(float(scores[i, j]))
        rows = [
            r
            for r in storage.read_parts(str(run / "similar" / "neighbours_bought")).to_pylist()
            if r["user_id"] == users[i]
        ]
        total = {item: cosines for item, cosines in total.items() if len(cosines) >= 2}
        order = sorted(total, key=lambda item: (-np.float32(sum(total[item])), ids.index(item)))[:5]
        assert [r["item_id"] for r in rows] == order
        assert [r["support"] for r in rows] == [len(total[item]) for item in order]


def test_neighbours_can_be_turned_off(shop):
    settings = settings_of(str(shop), similar={"items": 0, "users": 0, "bought": 0})
    assert similar.STAGE.execute(job_of(shop, "none", settings)) == {
        "similar_items": 0,
        "similar_users": 0,
        "neighbours_bought": 0,
        "notes": [],
    }


# all


def test_more_neighbours_than_there_are_cost_no_more_than_all(shop):
    many = settings_of(str(shop), similar=dict.fromkeys(("items", "users", "bought"), 1_000_000_000))
    some = settings_of(str(shop), similar=dict.fromkeys(("items", "users", "bought"), 1_000))
    assert similar.STAGE.execute(job_of(shop, "many", many)) == similar.STAGE.execute(job_of(shop, "some", some))


def test_no_table_is_pickled_on_its_way(shop, monkeypatch):
    def refuse(table):
        raise AssertionError("a table was pickled")

    monkeypatch.setitem(copyreg.dispatch_table, pa.Table, refuse)
    with pytest.raises(AssertionError, match="pickled"):
        pickle.dumps(pa.table({"a": [1]}))
    for job in (embed, recommend, similar):
        job.STAGE.execute(job_of(shop, f"unpickled-{job.STAGE.name}"))


@pytest.mark.parametrize(
    "modules", ["pipelines.recommend transforms.recommend", "transforms.similar", "pipelines.index"]
)
def test_serving_does_not_import_tensorflow(modules):
    names = ", ".join(f"topkin.{name}" for name in modules.split())
    code = f"import sys, {names}; sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    root = Path(__file__).parents[3]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, env=dict(os.environ), timeout=300).returncode == 0

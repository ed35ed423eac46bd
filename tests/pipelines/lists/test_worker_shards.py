"""What workers make in shards and clusters is what one makes of everything, on whatever engine."""

import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests.pipelines.lists.shop import AS_OF, PARTS, PROCESSES, USERS, write_shop
from topkin.artifacts import storage
from topkin.artifacts.embeddings import read_items
from topkin.config.sections import Settings
from topkin.pipelines import index, similar
from topkin.pipelines.engine.job import SCRATCH, Job, run_pipeline
from topkin.search.hnsw.files import load_index

FLAGS = [("--direct_runner_bundle_repeat=2",), pytest.param(PROCESSES, marks=pytest.mark.slow)]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run up to the embeddings."""
    folder = tmp_path_factory.mktemp("shop")
    write_shop(folder)
    return folder


def job_of(shop: Path, out: str, beam: tuple[str, ...] = (), **sections: object) -> Job:
    """A job of the shop, with a new folder for its results."""
    shutil.rmtree(shop / out, ignore_errors=True)
    run = {"output": str(shop), "parts": PARTS, "seed": 4}
    settings = Settings.model_validate({"purchases": {"path": "nowhere"}, "run": run, **sections})
    folders = {"prepare": str(shop / "prepared"), "embed": str(shop / "embeddings")}
    return Job(settings=settings, as_of=AS_OF, out=str(shop / out), folders=folders, beam=beam)


@pytest.mark.parametrize("flags", FLAGS, ids=["repeated bundles", "processes"])
@pytest.mark.parametrize("shard_items", [1000, 25])
def test_an_index_built_by_any_workers_is_that_built_in_one_go(shop, flags, shard_items):
    from topkin.search.hnsw.build import build_index

    job = job_of(shop, "index", flags, index={"shard_items": shard_items, "m": 8, "sample": 30})
    index.STAGE.execute(job)
    inputs, whole = index.inputs_of(job), str(shop / f"whole-{shard_items}")
    items = read_items(inputs.embeddings, inputs.encoder)
    how = {"ids": items.ids, "encoder": inputs.encoder, "queries": inputs.queries()}
    info = build_index(items.vectors, whole, inputs.settings, inputs.seed, **how)
    summary = storage.read_json(str(shop / "index" / "index.json"))
    assert {**summary, "files": None, "sha256": None} == {**info, "files": None, "sha256": None}
    assert storage.files(whole) == storage.files(job.out)
    for name in storage.files(whole):
        if name != "index.json" and not name.endswith(".nmslib"):  # whose unused bytes are any
            assert storage.read_bytes(f"{job.out}/{name}") == storage.read_bytes(f"{whole}/{name}")
    got, want = (load_index(folder).search(items.vectors, 9) for folder in (job.out, whole))
    assert np.array_equal(got[0], want[0])
    assert got[1].tobytes() == want[1].tobytes()


DIES = """
import os, signal, sys
from pathlib import Path
from tests.pipelines.lists.test_worker_shards import job_of
from topkin.pipelines import index
from topkin.transforms.search import index as steps

build = steps.build_shard

def build_and_die(items, settings, folder, number):
    build(items, settings, folder, number)
    os.kill(os.getpid(), signal.SIGKILL)

steps.build_shard = build_and_die
index.STAGE.execute(job_of(Path(sys.argv[1]), "dies", index={"shard_items": 25, "sample": 30}))
"""


def test_shards_finished_before_a_kill_of_the_launcher_are_taken(shop):
    root = Path(__file__).parents[3]
    died = subprocess.run([sys.executable, "-c", DIES, str(shop)], cwd=root)
    assert died.returncode == -signal.SIGKILL
    scratch = storage.join(str(shop / "dies"), SCRATCH)
    built = min((shop / "dies").rglob("built.json"))  # another may be done beside it
    number, graph = built.parent.name, next(built.parent.rglob("*.nmslib"))
    finished = graph.read_bytes()
    shutil.move(scratch, shop / "left")
    job = replace(job_of(shop, "again", index={"shard_items": 25, "sample": 30}), scratch=str(shop / "left"))
    index.STAGE.execute(job)
    again = Path(job.out, f"{number}.nmslib")
    assert again.read_bytes() == finished
    assert again.samefile(shop / "left" / "shards" / number / graph.parent.name / graph.name)
    assert len(storage.read_json(f"{job.out}/index.json")["shards"]) == 3


def tables(folder: str) -> dict[str, pa.Table]:
    """The tables of neighbours."""
    from topkin.transforms.similar import TABLES

    return {name: storage.read_parts(f"{folder}/{name}") for name in TABLES}


@pytest.mark.parametrize("flags", FLAGS, ids=["repeated bundles", "processes"])
@pytest.mark.parametrize("clusters", [1, 6])
def test_neighbours_in_all_clusters_are_those_of_a_look_at_everybody(shop, flags, clusters):
    from topkin.transforms.search import users
    from topkin.transforms.similar import SimilarParts

    exact = job_of(shop, "similar", similar={"users": 4, "items": 3, "min_support": 1})
    similar.STAGE.execute(exact)
    job = job_of(shop, "clustered", flags, similar={"users": 4, "items": 3, "min_support": 1, "exact_users": 1})
    inputs = users.ClusterInputs(
        similar=similar.inputs_of(job),
        users=USERS,
        clusters=clusters,
        seed=4,
        scratch=f"{job.out}/scratch",
        recall=1.0,  # of all users, who are fewer than measure
    )
    nearest = users.NearestInClusters(inputs)
    run_pipeline(SimilarParts(similar.inputs_of(job), job.out, f"{job.out}/counts.json", neighbours=nearest), flags)
    measured = users.measured(inputs)
    assert (measured["clusters"], measured["recall"]) == (clusters, 1.0)
    for name, table in tables(exact.out).items():
        assert tables(job.out)[name].equals(table), name


def test_beyond_a_size_the_job_searches_clusters_and_tells_the_share_that_it_finds(shop):
    from topkin.recommend import clusters

    exact = job_of(shop, "similar", similar={"users": 4, "min_support": 1})
    similar.STAGE.execute(exact)
    job = job_of(shop, "few", similar={"users": 4, "min_support": 1, "exact_users": USERS - 1})
    summary = similar.STAGE.execute(job)
    result = [tables(one.out)["similar_users"].select(["user_id", "neighbour_id"]) for one in (exact, job)]
    want, got = ({tuple(row.values()) for row in table.to_pylist()} for table in result)
    assert summary["users_recall"] == pytest.approx(len(want & got) / len(want))  # all users measured
    assert clusters.RECALL <= summary["users_recall"] < 1
    assert "nearest of 5 clusters, which hold" in summary["notes"][0]
    assert summary["similar_users"] == len(got)
    same = job_of(shop, "same", similar={"users": 4, "min_support": 1, "exact_users": USERS})
    similar.STAGE.execute(same)
    for name, table in tables(exact.out).items():
        assert tables(same.out)[name].equals(table)

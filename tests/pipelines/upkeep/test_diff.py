"""What changed between two runs, against a loop over dictionaries."""

import dataclasses
from collections import Counter
from datetime import datetime

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from topkin.artifacts import manifest, runs, schemas, storage
from topkin.artifacts.partition import split_by_partition
from topkin.errors import ArtifactError, ConfigError
from topkin.pipelines.upkeep import diff as module
from topkin.pipelines.upkeep.diff import diff

Lists = dict[str, list[str]]
lists = st.dictionaries(
    st.sampled_from([f"u{n}" for n in range(6)]),
    st.lists(st.sampled_from([f"i{n}" for n in range(7)]), min_size=1, max_size=4, unique=True),
)


def make(root: str, name: str, lists_of_users: Lists, parts: int = 2, kind: pa.DataType | None = None) -> runs.Run:
    kind = kind or pa.string()
    run = runs.Run(root, name, datetime(2024, 5, 1))
    rows = [
        {
            "user_id": user,
            "rank": n + 1,
            "item_id": item,
            "score": 0.5,
            "source": "model",
            "times_bought": 0,
            "because": [],
        }
        for user, items in lists_of_users.items()
        for n, item in enumerate(items)
    ]
    table = pa.Table.from_pylist(rows, schemas.recommendations(kind, kind))
    split = split_by_partition(table, "user_id", parts)
    place = f"runs/{name}"
    for part in range(parts):
        path = f"{root}/{place}/recommendations/recommendations/date=2024-05-01/{storage.part_name(part, parts)}"
        storage.write_parquet(split.get(part, table.slice(0, 0)), path)
    users = [u if isinstance(u, str) else str(u) for u in lists_of_users]
    items = sorted({i for listed in lists_of_users.values() for i in listed})
    catalogue = [
        {"item_id": i, "title": f"title of {i}", "category": None, "price": None, "available": True, "events": 1,
         "users": 1, "recent": 0, "first_sale": None, "last_sale": None} for i in items
    ]  # fmt: skip
    prepared = f"{root}/{place}/prepared"
    storage.write_parquet(pa.Table.from_pylist(catalogue, schemas.catalogue(kind)), f"{prepared}/catalogue.parquet")
    empty = pa.Table.from_pylist([], schemas.histories(kind, kind))
    storage.write_parquet(empty, f"{prepared}/histories/{storage.part_name(0, 1)}")
    counts = {"sources": {"purchases": {"rows": len(rows)}}, "users": len(users), "items": len(items)}
    storage.write_json(counts, f"{prepared}/statistics.json")
    for stage, folder in (("prepare", "prepared"), ("recommend", "recommendations")):
        manifest.seal(f"{root}/{place}/{folder}", stage=stage, key=name, summary={})
        run = runs.record_stage(run, stage, {"folder": f"{place}/{folder}"}, {})
    return run


@settings(max_examples=40)
@given(lists, lists, st.sampled_from([2, 3]))
def test_lists_items_and_users_are_compared_as_a_loop_would(tmp_path_factory, one: Lists, two: Lists, parts: int):
    root = str(tmp_path_factory.mktemp("out"))
    differences = diff(make(root, "a", one), make(root, "b", two, parts))
    both = sorted(one.keys() & two.keys())
    kept = {u: len(set(one[u]) & set(two[u])) for u in both}
    changed = [u for u in both if one[u] != two[u]]
    assert differences["counts"]["users"] == [len(one), len(two)]
    assert differences["lists"] | {"kept_share": 0} == {
        "both": len(both),
        "before_only": len(one.keys() - two.keys()),
        "after_only": len(two.keys() - one.keys()),
        "changed": len(changed),
        "kept_share": 0,
    }
    share = differences["lists"]["kept_share"]
    assert share == (pytest.approx(sum(kept[u] / len(one[u]) for u in both) / len(both)) if both else None)
    was, now = (Counter(i for items in lists.values() for i in items) for lists in (one, two))
    rules = {
        "entering": lambda i: not was[i],
        "leaving": lambda i: not now[i],
        "gained": lambda i: 0 < was[i] < now[i],
        "lost": lambda i: 0 < now[i] < was[i],
    }
    for name, rule in rules.items():
        want = sorted((i for i in was.keys() | now.keys() if rule(i)), key=lambda i: (-abs(was[i] - now[i]), i))
        rows = [{"item": i, "title": f"title of {i}", "before": was[i], "after": now[i]} for i in want]
        assert differences[name] == {"items": len(want), "most": rows[: module.MOST]}
    worst = sorted(changed, key=lambda u: (kept[u] / len(one[u]), u))
    assert differences["affected"] == [
        {"user": u, "kept": kept[u], "before": len(one[u]), "after": len(two[u])} for u in worst[: module.MOST]
    ]


def test_a_run_is_no_different_from_itself(tmp_path):
    run = make(str(tmp_path), "a", {"u1": ["i1", "i2"], "u2": ["i2"]})
    differences = diff(run, run)
    assert differences["lists"] == {"both": 2, "before_only": 0, "after_only": 0, "changed": 0, "kept_share": 1.0}
    assert differences["affected"] == []


def test_a_part_that_is_gone_is_told_and_not_passed_over(tmp_path):
    run = make(str(tmp_path), "a", {f"u{n}": ["i1", "i2"] for n in range(20)})
    name = storage.part_name(1, 2)
    (tmp_path / "runs/a/recommendations/recommendations/date=2024-05-01" / name).unlink()
    with pytest.raises(ArtifactError, match=f"{name} is missing"):
        diff(run, run)


def test_a_run_without_lists_yet_is_told_what_makes_them(tmp_path):
    run = make(str(tmp_path), "a", {"u1": ["i1"]})
    early = dataclasses.replace(run, folders={"prepare": run.folders["prepare"]})
    with pytest.raises(ArtifactError, match="no folder of the stage recommend: run topkin recommend first"):
        diff(run, early)


def test_runs_whose_ids_are_of_two_types_are_not_compared(tmp_path):
    root = str(tmp_path)
    one = make(root, "a", {"u1": ["i1"]})
    two = make(root, "b", {1: [2]}, kind=pa.int64())  # type: ignore[dict-item, list-item]
    with pytest.raises(ConfigError, match="a has string and string, b int64 and int64"):
        diff(one, two)


def test_of_runs_over_items_alone_the_neighbours_are_compared(tmp_path):
    root, result = str(tmp_path), []
    for name, neighbours in (("a", ["x", "y"]), ("b", ["y", "z"])):
        run = make(root, name, {"u": ["w", "x", "y", "z"]})
        rows = [{"item_id": "w", "rank": n + 1, "neighbour_id": i, "score": 0.5} for n, i in enumerate(neighbours)]
        table = pa.Table.from_pylist(rows, schemas.similar_items(pa.string()))
        storage.write_parquet(table, f"{run.path}/similar/similar_items/{storage.part_name(0, 1)}")
        manifest.seal(f"{run.path}/similar", stage="similar", key=name, summary={})
        storage.remove_folder(f"{run.path}/prepared/histories")
        manifest.seal(f"{run.path}/prepared", stage="prepare", key=name, summary={})
        run = runs.record_stage(run, "prepare", {"folder": f"runs/{name}/prepared"}, {})
        run = runs.record_stage(run, "similar", {"folder": f"runs/{name}/similar"}, {})
        result.append(runs.Run(root, name, run.as_of, {s: f for s, f in run.folders.items() if s != "recommend"}))
    differences = diff(*result)
    assert differences["affected"] == [{"item": "w", "kept": 1, "before": 2, "after": 2}]
    assert [differences[side]["most"][0]["item"] for side in ("entering", "leaving")] == ["z", "x"]
    with pytest.raises(ConfigError, match="of a and b one is over purchases and one over items alone"):
        diff(runs.read_run(root, "a"), result[1])
    storage.remove_folder(f"{root}/runs/a/similar/similar_items")
    with pytest.raises(ArtifactError, match=f"{storage.part_name(0, 1)} is missing"):
        diff(*result)
    manifest.seal(f"{root}/runs/a/similar", stage="similar", key="a", summary={})
    assert "lists" not in diff(*result)

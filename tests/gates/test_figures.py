"""The figures of a version beside those counted row by row."""

from collections import Counter
from collections.abc import Callable
from datetime import timedelta

import numpy as np
import pytest

from tests.gates.conftest import AS_OF, Version, some_rows
from topkin.artifacts import storage
from topkin.gates.figures import LATELY, of_items, of_purchases
from topkin.metrics.proportion import wilson

Write = Callable[[Version], dict[str, str]]


def test_counts_and_shares_are_those_of_the_rows(folders: Write) -> None:
    rows = some_rows()
    version = Version(rows, categories={"i00": "cups"}, available=7)
    figures = of_purchases(folders(version))
    users, items = Counter(u for u, _, _ in rows), Counter(i for _, i, _ in rows)
    days = Counter((AS_OF - timedelta(days=d)).date() for _, _, d in rows)
    lately = sum(n for day, n in days.items() if day >= (AS_OF - timedelta(days=LATELY)).date())
    assert figures["counts"] == {
        "rows of purchases": len(rows),
        "users": len(users),
        "items": len(items),
        "purchases": len(rows),
        "purchases a day": pytest.approx(lately / LATELY),
    }
    assert figures["largest"] == {
        "item": pytest.approx(max(items.values()) / len(rows)),
        "user": pytest.approx(max(users.values()) / len(rows)),
        "day": pytest.approx(max(days.values()) / len(rows)),
    }
    assert figures["age"] == pytest.approx(0.25)
    assert figures["categories"] == {"cups": items["i00"], "tea": len(rows) - items["i00"]}
    assert figures["shares"]["available items"] == 7 / len(items)
    assert figures["shares"]["items with a title"] == 1 - 1 / len(items)
    assert figures["price"] == 10


def test_a_young_shop_is_counted_over_the_days_that_it_has(folders: Write) -> None:
    rows = [(1, "a", 2.5), (1, "b", 1.5), (2, "a", 0.5)]
    assert of_purchases(folders(Version(rows)))["counts"]["purchases a day"] == 1


def test_rejects_are_shares_of_an_inputs_rows_those_of_lists_too(folders: Write) -> None:
    source = {"rows": 40, "unnested": 60, "rejected": {"free": 25}}
    figures = of_purchases(folders(Version(some_rows(), statistics={"sources": {"purchases": source, "users": {}}})))
    assert figures["rejected"] == {"purchases": {"free": 0.25}}


def test_the_model_is_asked_for_users_with_enough_purchases_alone(folders: Write) -> None:
    fallback = {"no purchases": 20, "fewer purchases than recommend.min_history": 20, "no vector": 15}
    figures = of_purchases(
        folders(Version(some_rows(), lists_summary={"users": 100, "fallback": fallback, "short": 3}))
    )
    assert figures["lists"] | {"by_model": 0.75, "ranked": 45, "short": 0.03} == figures["lists"]
    nobody = {"no purchases": 100}
    assert (
        of_purchases(folders(Version(some_rows(), lists_summary={"users": 100, "fallback": nobody})))["lists"][
            "by_model"
        ]
        is None
    )


def test_recall_has_the_interval_of_its_queries(folders: Write) -> None:
    figures = of_purchases(folders(Version(some_rows(), recall={"recall@10": 0.9, "queries": 50})))["recall"]
    low, high = wilson(0.9, 50)
    assert figures == {"k": 10, "share": 0.9, "queries": 50, "low": low, "high": high}


def test_vectors_set_aside_by_embed_count_as_not_finite(folders: Write) -> None:
    figures = of_purchases(folders(Version(some_rows(), embedded={"items_not_finite": 6})))["vectors"]
    assert (figures["items"]["not_finite"], figures["users"]["not_finite"]) == (0.05, 0)
    bad = np.eye(120, 8)
    bad[3, 2] = np.inf
    assert of_purchases(folders(Version(some_rows(), vectors=bad)))["vectors"]["users"]["not_finite"] == pytest.approx(
        1 / 120, abs=1e-6
    )


def test_without_times_nothing_is_counted_by_day(folders: Write) -> None:
    figures = of_purchases(folders(Version(some_rows(), statistics={"times": "order"})))
    assert "age" not in figures
    assert "purchases a day" not in figures["counts"]
    assert "day" not in figures["largest"]


def test_stages_that_are_not_there_are_left_out(folders: Write) -> None:
    now = folders(Version(some_rows()))
    assert of_purchases({}) == {}
    assert "lists" not in of_purchases({"prepare": now["prepare"]})


def test_items_alone_have_rows_and_vectors(folders: Write) -> None:
    now = folders(Version(some_rows()))
    statistics = {"sources": {"items": {"rows": 10, "rejected": {"no photo": 2}}}, "items": 8}
    storage.write_json(statistics, f"{now['prepare']}/statistics.json")
    figures = of_items({stage: now[stage] for stage in ("prepare", "embed", "index")})
    assert figures["counts"] == {"rows of items": 10, "items": 8}
    assert figures["rejected"] == {"items": {"no photo": 0.2}}
    assert figures["vectors"]["items"]["vectors"] == 120

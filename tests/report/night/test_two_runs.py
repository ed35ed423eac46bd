"""Two runs on one page: what differs stands side by side, whatever the texts."""

import copy
from datetime import datetime
from html import escape
from typing import Any

import pytest

from topkin.report.night.two_runs import Pair, Side, render_two

HOSTILE = "<img src=x onerror=alert(1)>\u202e"


@pytest.fixture
def sides(measured: dict[str, Any]) -> tuple[Side, Side]:
    later = copy.deepcopy(measured)
    later["novel"]["model"]["recall@10"] = 0.4321
    later["verdict"]["good"] = False
    later["beats"]["item_knn"] = False
    refused = {"verdict": "refused", "sentence": HOSTILE, "name": "x", "key": "publish.x"}
    pair = []
    for n, metrics in enumerate((measured, later)):
        source = {"rows": 100, "rejected": {HOSTILE: 10 * n, "cancelled": 5}}
        pair.append(
            Side(
                run_id=f"r{n}",
                as_of=datetime(2024, 5, 1 + n),
                settings={"train": {"epochs": n, "preset": "small"}},
                statistics={"sources": {"purchases": source, "items": None}},
                metrics=metrics,  # type: ignore[arg-type]
                gates=[refused][:n],
            )
        )
    return pair[0], pair[1]


def content(**more: Any) -> dict[str, Any]:
    moved = [
        {"item": "i1", "title": HOSTILE, "before": 3, "after": 7},
        {"item": "i2", "title": None, "before": 1, "after": 2},
    ]
    return {
        "before": "r0",
        "after": "r1",
        "counts": {"rows": [100, 150], "users": [20, 10], "items": [None, 4]},
        "lists": {"both": 20, "before_only": 1, "after_only": 2, "changed": 5, "kept_share": 0.875},
        **{name: {"items": 2, "most": moved} for name in ("entering", "leaving", "gained", "lost")},
        **more,
    }  # fmt: skip


def test_what_differs_stands_side_by_side(sides: tuple[Side, Side]) -> None:
    page = render_two(content(), sides, [Pair(name="Customer 7", lists=(["tea", "cup"], ["cup"]))])
    for text in (
        "<code>r0</code>, as of 1 May 2024",
        "The lists find what customers buy next better than each of 2 simple methods",
        "surely better than 1 of 2 simple methods",
        '<tr><th scope="row">Rows</th><td class="n">100</td><td class="n">150</td><td class="n">▲ +50.0 %</td></tr>',
        '<td class="n">▼ −50.0 %</td>',
        '<tr><th scope="row">Recall@10</th><td class="n">0.3000 (0.2900 to 0.3100)</td><td class="n">0.4321 (',
        "20 lists in both, 1 gone, 2 new. 5 changed in some place; on average 87.5&#160;% of a list stayed.",
        "<td class=\"title\"><bdi>i2</bdi></td>",
        '<td class="title"><bdi>tea</bdi> <span class="worse">gone</span></td>',
        '<th scope="row"><code>train.epochs</code></th><td><code>0</code></td><td><code>1</code></td>',
        "No gate refuses it.",
        "1 gate refused:",
    ):  # fmt: skip
        assert text in page.replace("\u00a0", " "), text
    assert "train.preset" not in page
    assert HOSTILE not in page
    assert page.count(escape(HOSTILE)) >= 5


def test_runs_that_got_no_further_than_their_tables_have_a_page_too(sides: tuple[Side, Side]) -> None:
    bare = [Side(**{**vars(side), "metrics": None, "gates": None, "settings": {}}) for side in sides]
    page = render_two({"before": "r0", "after": "r1", "counts": {}}, (bare[0], bare[1]), [])
    assert page.count("Not judged.") == 2
    assert "One of them has no lists to compare." in page
    assert "The gates were not asked." in page
    assert "The model’s figures" not in page

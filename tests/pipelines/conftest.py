"""What several jobs' tests make and read."""

import json
from collections import Counter
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

if TYPE_CHECKING:
    from topkin.recommend.lists import Lists
    from topkin.transforms.recommend import RecommendInputs


@pytest.fixture(scope="session")
def write_model() -> Callable[[str, int, pa.Table], None]:
    """Writes an encoder that knows the first so many items of a catalogue, with random weights."""
    return _write_model


def _write_model(folder: str, known_items: int, catalogue: pa.Table) -> None:
    from topkin.encoding.blocks import RECENCY, Block
    from topkin.models.two_tower.encoder import Encoder
    from topkin.models.two_tower.recency_prior import RecencyPrior
    from topkin.models.two_tower.serialization import save
    from topkin.models.two_tower.towers import Towers, TwoTower

    known = catalogue["item_id"].combine_chunks().slice(0, known_items)
    common = {"items": len(known), "word_buckets": 64, "title_words": 4, "categories": 2}
    towers = [
        TwoTower(**common, dim=6, seed=3, unit_out=False, with_content=False, name="svd"),
        TwoTower(**common, dim=8, seed=5, name="trained"),
    ]
    blocks = [
        Block(
            name="svd", dim=6, weight=1, inverse_popularity=0.5, half_life_days=30, recency_lift=0.5, spread=(0.5,) * 6
        ),
        Block(name="trained", dim=8, weight=0.7, inverse_popularity=0.5, half_life_days=30, spread=(0.1,) * 8),
        Block(name=RECENCY, dim=1, weight=0.3, inverse_popularity=0, half_life_days=None, spread=(1.5,)),
    ]
    meaning = {
        "blocks": [block.to_json() for block in blocks],
        "recency": RecencyPrior().to_json(),
        "reach": 6.0,
        "categories": ["a", "b"],
    }
    model = Towers(towers, meaning=meaning, name="encoder")
    model.build()
    save(Encoder(model, known), folder, {"seed": 3})


class Page(HTMLParser):
    """Collects tags, attributes and text; open elements must close in order."""

    VOID = frozenset(
        ("meta", "link", "input", "br", "img", "hr", "rect", "line", "circle", "path", "polyline", "polygon")
    )

    def __init__(self, text: str) -> None:
        super().__init__()
        self.source = text
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(n, v or "") for n, v in attrs]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.text += f"{data} "


@pytest.fixture
def page_of() -> Callable[[Any], Page]:
    """Reads the page of what an evaluate job measured."""

    def page(job: Any) -> Page:
        from topkin.report import data
        from topkin.report.page import render

        metrics = json.loads(Path(job.out, "metrics.json").read_text())
        return Page(
            render(data.gather(job.folders, metrics, as_of=job.as_of, run_id=job.out.rstrip("/").split("/")[-2]), [])
        )

    return page


@pytest.fixture(scope="session")
def lists_in_memory() -> Callable[["RecommendInputs"], list["Lists"]]:
    """Makes what ``RecommendParts`` writes, part by part, without Beam."""
    return _lists_in_memory


def _lists_in_memory(inputs: "RecommendInputs") -> list["Lists"]:
    from topkin.recommend.popular_fallback import merge_segment_counts
    from topkin.recommend.repurchase.rates import merge_counts
    from topkin.transforms.lists.counts import count_part
    from topkin.transforms.recommend import ListMaker

    counts = [count_part(inputs, part) for part in range(inputs.parts)]
    segments, repeats = merge_segment_counts([c for c, _ in counts]), merge_counts([c for _, c in counts])
    maker = ListMaker(inputs)
    return [maker.lists(part, segments, repeats) for part in range(inputs.parts)]

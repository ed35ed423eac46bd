"""The page as a browser and a screen reader take it: what it may run and load, its outline, its names, its texts."""

import base64
import hashlib
import json
import re
from datetime import datetime
from html.parser import HTMLParser
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pytest

from topkin.artifacts import storage
from topkin.gates.gate import Gate
from topkin.report import data, page
from topkin.report.browse.names import clean
from topkin.report.browse.served import served

HOSTILE = '</script><img src=x onerror=alert(1)>\u202e "q" \'&amp; <b>\x07'
pytestmark = pytest.mark.parametrize("small_run", ["string"], indirect=True)
VOID = {"meta", "link", "input", "img", "br"}


class Page(HTMLParser):
    """Every element with its attributes, those that it lies in, and the text of scripts and titles."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None], tuple[str, ...]]] = []
        self.texts: dict[str, list[str]] = {}
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs), tuple(self.open)))
        assert len({name for name, _ in attrs}) == len(attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs), tuple(self.open)))  # inside SVG

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"{tag} is closed out of turn"

    def handle_data(self, text: str) -> None:
        self.texts.setdefault(self.open[-1] if self.open else "", []).append(text)

    def all(self, *tags: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes, _ in self.elements if tag in tags]


@pytest.fixture
def changes() -> dict[str, Any]:
    moved = {"items": 3, "most": [[clean(HOSTILE), 4, 9], ["tea", 1, 2]]}
    return {
        "since": "2024-04-30T00:00:00",
        "counts": [["users", 18, 20], ["items", 4, 4], ["purchases a day", 2.5, 2.0], ["rows of purchases", None, 70]],
        "rejects": [["purchases", HOSTILE, 0.1, 0.2]],
        "lists": {"overlap": 0.75, "rank-biased overlap": 0.8, "users": 18, "k": 2},
        "users": {"new": 2, "gone": 0},
        "items": {"new": {"items": 1, "most": [clean(HOSTILE)]}, "gone": {"items": 0, "most": []}},
        **dict.fromkeys(("climbers", "fallers", "entering", "leaving"), moved),
    }


@pytest.fixture(params=["measured", "first night"])
def html(request: pytest.FixtureRequest, folders: dict[str, str], measured: dict[str, Any], changes: Any) -> str:
    """The page of a shop whose titles, segments, reasons and settings are hostile."""
    path = storage.join(folders["prepare"], "catalogue.parquet")
    catalogue = storage.read_parquet(path)
    for column in ("title", "category"):
        at = catalogue.column_names.index(column)
        catalogue = catalogue.set_column(at, catalogue.field(at), pa.array([HOSTILE] * len(catalogue), pa.string()))
    storage.write_parquet(catalogue, path)
    verdicts = [("users", "passed"), (HOSTILE, "refused"), ("rows", "not asked")]
    gates = [Gate(name=n, key="publish.x", verdict=v, sentence=HOSTILE) for n, v in verdicts]  # type: ignore[arg-type]
    changed = changes if request.param == "measured" else None
    made_at = data.gather(folders, measured, as_of=datetime(2024, 5, 1), run_id="r1", changes=changed)
    return page.render(made_at, gates, {"run": {"seed": 1}, "purchases": {"rules": {"x": HOSTILE}}})


def test_a_page_runs_its_own_script_alone_and_loads_nothing(html: str) -> None:
    parsed = Page(html)
    head = html[: html.index("Content-Security-Policy")]  # which the policy is not held to
    assert set(re.findall("<[a-z]+", head)) <= {"<html", "<head", "<meta"}
    (policy,) = [m["content"] for m in parsed.all("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None
    rules = dict(rule.split(maxsplit=1) for rule in policy.split("; "))
    scripts = dict(zip([s.get("type") for s in parsed.all("script")], parsed.texts["script"], strict=True))
    assert set(scripts) == {None, "application/json"}
    digest = base64.b64encode(hashlib.sha256(scripts[None].encode()).digest()).decode()
    assert rules == {
        "default-src": "'none'",
        "style-src": "'unsafe-inline'",
        "script-src": f"'sha256-{digest}'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    for _, attributes, _ in parsed.elements:
        assert not [name for name in attributes if name.startswith("on")]
        assert all((attributes.get(name) or "#").startswith(("#", "data:")) for name in ("src", "href", "action"))
    for forbidden in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "new Function",
        "console.",
    ):
        assert forbidden not in scripts[None]


def test_hostile_texts_are_texts_wherever_they_stand(html: str) -> None:
    parsed = Page(html)
    assert not parsed.all("img", "b")
    held = json.loads(parsed.texts["script"][0])
    assert set(held["items"]["title"]) == {clean(HOSTILE)}
    shown = [text for text in parsed.texts["bdi"] if "alert" in text]
    assert len(shown) > 10
    assert not any("\x07" in text for text in shown)
    spoken = re.sub(r"<script.*?</script>", "", html, flags=re.DOTALL)
    stray = [m for m in re.findall(r"<(\w+)[^<>]*>[^<>]*\u202e", spoken) if m not in ("bdi", "td", "th", "code")]
    assert stray == []


def test_the_outline_has_landmarks_and_headings_in_their_order(html: str) -> None:
    parsed = Page(html)
    assert len(parsed.all("main")) == len(parsed.all("h1")) == 1
    levels = [int(tag[1]) for tag, _, _ in parsed.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert all(b - a <= 1 for a, b in pairwise(levels))
    assert [a["aria-label"] for a in parsed.all("nav")] == ["Sections"]
    names = [a["id"] for _, a, _ in parsed.elements if "id" in a]
    assert len(set(names)) == len(names)
    for link in parsed.all("a"):
        href = link["href"] or ""
        assert href.startswith("#user=") or href[1:] in names
    order = [a["id"] for a in parsed.all("section") if "id" in a]
    assert order[:5] == ["changes", "gates", "users", "look", "map"]
    assert html.index('class="verdict') < html.index('id="changes"')


def test_fields_tables_and_scrolling_parts_have_names(html: str) -> None:
    parsed = Page(html)
    labels = {a["for"] for a in parsed.all("label")}
    assert {a["id"] for a in parsed.all("input")} == labels
    assert all(a.get("scope") in ("col", "row", "colgroup") for a in parsed.all("th"))
    assert all(a.get("alt") is not None for a in parsed.all("img"))
    for attributes in parsed.all("div"):
        if attributes.get("class") == "wide" and "tabindex" in attributes:
            assert attributes["aria-label"]
    for attributes in parsed.all("input", "canvas"):
        for reference in ("aria-controls", "aria-describedby"):
            if reference in attributes:
                assert f'id="{attributes[reference]}"' in html
    assert (parsed.all("html")[0]["lang"], len(parsed.all("title")) > 0) == ("en", True)


def _colours(style: str) -> list[dict[str, str]]:
    """The variables of the light and of the dark theme."""
    blocks = re.findall(r":root \{([^}]*)\}", style)[:2]
    return [dict(re.findall(r"(--\w+): (#\w{6})", block)) for block in blocks]


def _luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_texts_and_marks_stand_out_in_both_themes(html: str) -> None:
    """WCAG 2.2: 4.5 to 1 for texts (1.4.3), 3 to 1 for marks and edges of fields (1.4.11)."""
    themes = _colours("".join(Page(html).texts["style"]))
    assert len(themes) == 2
    for theme in themes:
        assert len(theme) > 15
        for name, colour in theme.items():
            least = 4.5 if name in ("--ink", "--soft", "--accent", "--good", "--bad") else 3
            if name in ("--rule", "--paper", "--wash", "--calm"):
                continue
            for ground in ("--paper", "--wash"):
                one, other = sorted((_luminance(colour), _luminance(theme[ground])))
                assert (other + 0.05) / (one + 0.05) >= least, (name, ground)


def test_a_served_page_may_ask_its_server_and_nobody_else(html: str) -> None:
    asked = served(html, "/api/")
    assert asked is not None
    parsed = Page(asked)
    assert parsed.all("html") == [{"lang": "en", "data-api": "/api/"}]
    assert "connect-src 'self'; style-src" in asked
    assert asked.count("connect-src") == 1
    assert served("<html lang='en'>an older page", "/api/") is None

import xml.etree.ElementTree as ET

import numpy as np
import pytest

from topkin.report import svg
from topkin.report.svg import Bar, Column, Line

SVG = "{http://www.w3.org/2000/svg}"
BARS = [("new", [Bar("model", 0.5, 0.4, 0.6, True), Bar("<b>&", 0.1, 0.05, 0.2)]), ("all", [Bar("model", 0.0)])]


def drawings() -> dict[str, str]:
    ones = [("new", [Bar("a", -0.2, -0.3, -0.1), Bar("b", 0.0, -0.1, 0.1), Bar("c", 0.3)])]
    return {
        "bars": svg.bar_groups("bars", "Title <i>", "what & why", BARS),
        "gaps": svg.interval_plot("gaps", "t", "d", ones),
        "none": svg.bar_groups("none", "t", "d", [("empty", [])]),
        "line": svg.line_chart("line", "t", "d", [Line("loss", [1, 2, 3], [3, 2, 1.5])], x_label="epoch", whole=True),
        "dot": svg.line_chart("dot", "t", "d", [Line("loss", [1], [3])], x_label="epoch", mark=(1, "kept")),
        "two": svg.line_chart("two", "t", "d", [Line("a", [1, 2], [0, 0]), Line("b", [1, 2], [1, 1])], x_label="x"),
        "columns": svg.histogram("columns", "t", "d", [Column("Jan", 3), Column("Feb", 0), Column("Mar", 1, 2)]),
        "nothing": svg.histogram("nothing", "t", "d", []),
    }


@pytest.mark.parametrize("name", drawings())
def test_every_chart_is_well_formed_finite_and_says_what_it_shows(name: str) -> None:
    drawn = drawings()[name]
    root = ET.fromstring(drawn.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1))
    assert root.attrib["role"] == "img"
    titles = {e.attrib["id"]: e.text for e in root if e.tag in (SVG + "title", SVG + "desc")}
    assert set(titles) == set(root.attrib["aria-labelledby"].split())
    assert all(titles.values())
    assert "nan" not in drawn
    assert "inf" not in drawn.replace("information", "")


def test_bars_are_as_long_as_their_values() -> None:
    root = ET.fromstring(svg.bar_groups("b", "t", "d", [("g", [Bar("a", 0.4), Bar("b", 0.1), Bar("c", 0.2)])]))
    lengths = [float(r.attrib["width"]) for r in root.iter("rect")]
    assert lengths == pytest.approx([4 * lengths[1], lengths[1], 2 * lengths[1]], abs=0.3)


def test_an_interval_around_zero_is_drawn_hollow() -> None:
    bars = [Bar("clear", 0.2, 0.1, 0.3), Bar("open", 0.1, -0.1, 0.3), Bar("below", -0.2, -0.3, -0.1)]
    root = ET.fromstring(svg.interval_plot("b", "t", "d", [("g", bars)]))
    assert [c.attrib["class"] for c in root.iter("circle")] == ["accent", "open", "accent"]


def test_texts_are_escaped() -> None:
    drawn = "".join(drawings().values())
    assert "<b>" not in drawn
    assert "<i>" not in drawn
    assert "&lt;b&gt;&amp;" in drawn


@pytest.mark.parametrize("low", [-3.0, 0.0, 0.013, 99.0])
@pytest.mark.parametrize("span", [1e-6, 0.7, 1.0, 37.0, 1e6])
def test_ticks_are_round_and_hold_the_values_between_them(low: float, span: float) -> None:
    ticks = svg.nice_ticks(low, low + span)
    assert ticks[0] <= low + 1e-9 * span
    assert ticks[-1] >= low + span * (1 - 1e-9)
    assert 2 <= len(ticks) <= 9
    assert np.diff(ticks) == pytest.approx(np.diff(ticks)[0], rel=1e-4)


def test_an_axis_refuses_ends_that_are_no_numbers() -> None:
    with pytest.raises(ValueError, match="finite ends"):
        svg.nice_ticks(0, float("nan"))


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (950, "950"), (1500, "1,500"), (12_000, "12k"), (2_500_000, "2.5M"), (0.05, "0.05"), (2.5, "2.5")],
)
def test_numbers_are_short(value: float, text: str) -> None:
    assert svg.short_number(value) == text


def test_a_key_that_cannot_name_an_element_is_refused() -> None:
    with pytest.raises(ValueError, match="key must be"):
        svg.histogram("Not a key", "t", "d", [])

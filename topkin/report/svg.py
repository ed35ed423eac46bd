"""Charts as inline SVG: pure functions from numbers to a string that needs no script and no other file.

Every chart has a title and a description for those who do not see it, says with words, shapes or
positions whatever it says with colour, and takes its colours from the page's variables and its style from the
page's classes, so that it reads in light, in dark and on paper. Text given by callers is escaped.
"""

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

import numpy as np

_WIDE, _NARROW = set("MW@%mw—"), set("iljtfrI.,:;'|!()[] ")
FONT = 12.5


@dataclass(frozen=True)
class Bar:
    """One bar: its name, its length, its interval if there is one, and whether it stands out."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    strong: bool = False


@dataclass(frozen=True)
class Line:
    """One line of a line chart: x and y of equal length, x rising; ``low`` and ``high`` are the ends of a band."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()


@dataclass(frozen=True)
class Column:
    """One column of a histogram; ``open`` more of it is drawn hollow on top, for what is set apart."""

    name: str
    value: float
    open: float = 0.0


def text_width(text: str, size: float = FONT) -> float:
    """About how wide a text is in a sans-serif font, in the unit of ``size``; rather too wide than too narrow."""
    width = 0.0
    for c in text:
        width += 0.92 if c in _WIDE else 0.34 if c in _NARROW else 0.72 if c.isupper() else 0.58
    return width * size


def short_number(value: float) -> str:
    """A number as an axis shows it: 950, 12k, 1.5M; small ones with the digits that they need."""
    if value == 0:
        return "0"
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size * (10 if unit == "k" else 1):
            return f"{value / size:.3g}{unit}"
    if abs(value) >= 1:
        return f"{value:,.0f}" if abs(value) >= 1000 or float(value).is_integer() else f"{value:.3g}"
    return f"{value:.2g}" if abs(value) >= 1e-4 else f"{value:.0e}"


def tick_texts(ticks: Sequence[float]) -> list[str]:
    """The ticks of one axis as texts, all with the decimals that tell them apart."""
    most, step = max(abs(t) for t in ticks), min((b - a for a, b in pairwise(ticks)), default=1.0)
    if most >= 10_000 or step < 1e-5:
        return [_minus(short_number(t)) for t in ticks]
    digits = next((d for d in range(6) if abs(round(step, d) - step) < step * 1e-6), 6)
    return [_minus(f"{t:,.{digits}f}") if t else "0" for t in ticks]


def nice_ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers from at or below ``low`` to at or above ``high``, about ``about`` of them."""
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError(f"an axis needs finite ends, got {low} and {high}: leave such values out")
    if high <= low:
        high = low + (abs(low) or 1.0)
    rough = (high - low) / max(about - 1, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


ROW, HEAD = 25.0, 30.0  # heights of a bar and of a group's name


def _grouped_rows(
    groups: Sequence[tuple[str, Sequence[Bar]]],
    ticks: Sequence[float],
    texts: Sequence[str],
    right: float,
    draw: Callable[[Bar, float, Callable[[float], float]], list[str]],
    zero: str = "grid",
) -> tuple[float, float, list[str]]:
    """Width, height and content of groups of rows that share an axis; ``draw`` gets a bar, its y and the scale."""
    bars = [b for _, group in groups for b in group]
    width, height = 520.0, sum(HEAD + ROW * len(group) for _, group in groups) + 26
    left = min(max((text_width(b.name) for b in bars), default=0) + 14, 210)
    scale = (width - left - right) / (ticks[-1] - ticks[0])

    def at(value: float) -> float:
        return left + (value - ticks[0]) * scale

    out = []
    for t, text in zip(ticks, texts, strict=True):
        out.append(_line(zero if t == 0 else "grid", at(t), HEAD - 6, at(t), height - 22))
        out.append(_text(at(t), height - 6, text, "soft", "middle"))
    y = 0.0
    for name, group in groups:
        out.append(_text(0, y + 18, name, "strong halo"))
        y += HEAD
        for b in group:
            out.append(_text(left - 8, y + ROW / 2 + 4.4, b.name, "strong" if b.strong else "", "end"))
            out += draw(b, y, at)
            y += ROW
    return width, height, out


def bar_groups(key: str, title: str, description: str, groups: Sequence[tuple[str, Sequence[Bar]]]) -> str:
    """Horizontal bars in named groups that share one axis, with their values and 95 % intervals."""
    ticks = nice_ticks(
        0, max([*(b.value if b.high is None else b.high for _, group in groups for b in group), 1e-9]), 5
    )

    def draw(b: Bar, y: float, at: Callable[[float], float]) -> list[str]:
        middle, left, end = y + ROW / 2, at(0), at(max(b.value, 0))
        out = [_rect("accent" if b.strong else "calm", left, y + 4, max(end - left, 1), ROW - 8, rx=2)]
        if b.low is not None and b.high is not None:
            out.append(_whisker(at(b.low), at(b.high), middle))
            end = max(end, at(b.high))
        out.append(_text(end + 7, middle + 4.4, f"{b.value:.3f}", "strong halo" if b.strong else "halo"))
        return out

    return _svg(key, title, description, *_grouped_rows(groups, ticks, tick_texts(ticks), 58, draw))


def interval_plot(key: str, title: str, description: str, groups: Sequence[tuple[str, Sequence[Bar]]]) -> str:
    """Differences with their 95 % intervals beside a line at zero; a hollow dot where it lies within."""
    bars = [b for _, group in groups for b in group]
    low = min([0.0, *(b.value if b.low is None else b.low for b in bars)])
    high = max([0.0, *(b.value if b.high is None else b.high for b in bars)])
    ticks = nice_ticks(low, high, 6)

    def draw(b: Bar, y: float, at: Callable[[float], float]) -> list[str]:
        out: list[str] = []
        middle, clear, start, end = y + ROW / 2, True, at(b.value) - 5, at(b.value) + 5
        if b.low is not None and b.high is not None:
            out.append(_whisker(at(b.low), at(b.high), middle))
            clear, start, end = b.low > 0 or b.high < 0, min(start, at(b.low)), max(end, at(b.high))
        out.append(_circle("accent" if clear else "open", at(b.value), middle, 5))
        number = _minus(f"{b.value:+.3f}")
        if b.value < 0 and start - 7 - text_width(number) > at(ticks[0]) - 4:  # off the line at zero
            out.append(_text(start - 7, middle + 4.4, number, "halo", "end"))
        else:
            out.append(_text(end + 7, middle + 4.4, number, "halo"))
        return out

    texts = [f"{'+' if t > 0 else ''}{text}" for t, text in zip(ticks, tick_texts(ticks), strict=True)]
    return _svg(key, title, description, *_grouped_rows(groups, ticks, texts, 66, draw, zero="axis"))


_DASHES = ("", "6 4", "2 3")


def _path(points: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def line_chart(
    key: str,
    title: str,
    description: str,
    lines: Sequence[Line],
    *,
    x_label: str,
    y_label: str = "",
    mark: tuple[float, str] | None = None,
    height: float = 240,
    from_zero: bool = False,
    whole: bool = False,
    x_text: Callable[[float], str] | None = None,
) -> str:
    """Lines with a marker at each point, named at their ends; ``mark`` is a vertical line with a word.

    from_zero: the y axis starts at zero. whole: x counts things, so that only whole numbers are ticks. x_text: what a
    tick of x is called, if not by its number.
    """
    width, left, top, bottom = 520.0, 52.0, 24.0, 42.0
    xs = np.concatenate([np.asarray(line.x, float) for line in lines])
    ys = np.concatenate([np.asarray([*line.y, *line.low, *line.high], float) for line in lines])
    yt = nice_ticks(min(0.0, float(ys.min())) if from_zero else float(ys.min()), float(ys.max()), 5)
    lo, hi = float(xs.min()), float(xs.max())
    xt = [t for t in nice_ticks(lo, max(hi, lo + 1), 7) if lo <= t <= hi and (not whole or t == int(t))]
    named = len(lines) > 1
    right = 14 + (max(text_width(line.name) for line in lines) if named else 0)
    wide = max(hi - lo, 1e-9)

    def px(x: float) -> float:
        room = width - left - right
        return left + (x - lo) / wide * (room - 12) + 6 if hi > lo else left + room / 2

    def py(y: float) -> float:
        return top + (yt[-1] - y) / (yt[-1] - yt[0]) * (height - top - bottom)

    out = []
    for t, text in zip(yt, tick_texts(yt), strict=True):
        out += _level(left, width - right, py(t), text)
    for t, text in zip(xt, tick_texts(xt) if x_text is None else map(x_text, xt), strict=True):
        out.append(_text(px(t), height - bottom + 18, text, "soft", "middle"))
    out.append(_text(left + (width - left - right) / 2, height - 6, x_label, "soft", "middle"))
    out.append(_text(0, 12, y_label, "soft"))
    if mark is not None:
        x = px(mark[0])
        out.append(_line("axis", x, top - 6, x, height - bottom, ' stroke-dasharray="4 3"'))
        room = x + 6 + text_width(mark[1]) < width
        out.append(_text(x + (6 if room else -6), top - 8, mark[1], "halo", "start" if room else "end"))
    for line in lines:
        if len(line.low):
            edge = [*zip(line.x, line.low, strict=True), *reversed([*zip(line.x, line.high, strict=True)])]
            out.append(f'<polygon class="band" points="{_path((px(float(x)), py(float(y))) for x, y in edge)}"/>')
    named_at: list[float] = []
    for n, line in enumerate(lines):
        points = [(px(float(x)), py(float(y))) for x, y in zip(line.x, line.y, strict=True)]
        dash = f' stroke-dasharray="{_DASHES[n % len(_DASHES)]}"' if n else ""
        out.append(f'<polyline class="line"{dash} points="{_path(points)}"/>')
        if len(points) <= 60:
            out.extend(_circle("accent", x, y, 3) for x, y in points)
        if named and points:
            y = points[-1][1] + 4.4
            while any(abs(y - other) < FONT for other in named_at):  # lines that end together are named in turn
                y -= FONT
            named_at.append(y)
            out.append(_text(points[-1][0] + 7, y, line.name, "halo"))
    return _svg(key, title, description, width, height, out)


def histogram(
    key: str,
    title: str,
    description: str,
    columns: Sequence[Column],
    *,
    x_label: str = "",
    width: float = 520,
    height: float = 240,
) -> str:
    """Columns side by side, each with its name below where there is room, the highest with its value."""
    left, top, right = 46.0, 24.0, 8.0
    bottom = 42.0 if x_label else 26.0
    ticks = nice_ticks(0, max([c.value + c.open for c in columns] + [1e-9]), 5)
    step = (width - left - right) / max(len(columns), 1)
    scale = (height - top - bottom) / ticks[-1]
    floor = height - bottom
    out = []
    for t, text in zip(ticks, tick_texts(ticks), strict=True):
        out += _level(left, width - right, floor - t * scale, text)
    widest = max((text_width(c.name) for c in columns), default=0)
    every = max(1, math.ceil((widest + 10) / step))
    highest = max(range(len(columns)), key=lambda i: columns[i].value + columns[i].open, default=-1)
    for i, c in enumerate(columns):
        x, inset = left + i * step, max(min(step * 0.12, 4), (step - 72) / 2)  # few columns stay slim
        whole, below = (c.value + c.open) * scale, c.value * scale
        out.append(f"<g><title>{escape(c.name)}: {c.value + c.open:,.6g}</title>")
        for kind, foot, tall, edge in (("accent", 0.0, below, 0.0), ("open", below, whole - below, 0.75)):
            if tall > 0:
                tall = max(tall, 1.5)
                wide, high = max(step - 2 * inset - 2 * edge, 0.5), max(tall - 2 * edge, 0.5)
                out.append(_rect(kind, x + inset + edge, floor - foot - tall + edge, wide, high))
        out.append("</g>")
        if i % every == 0:
            out.append(_text(x + step / 2, floor + 17, c.name, "soft", "middle"))
        if i == highest and whole:
            out.append(_text(x + step / 2, floor - whole - 6, short_number(c.value + c.open), "halo", "middle"))
    out.append(_line("axis", left, floor, width - right, floor))
    if x_label:
        out.append(_text(left + (width - left - right) / 2, height - 5, x_label, "soft", "middle"))
    return _svg(key, title, description, width, height, out)


def _level(left: float, right: float, y: float, text: str) -> list[str]:
    """A line across the chart, and what it stands for at its left."""
    return [_line("grid", left, y, right, y), _text(left - 8, y + 4.4, text, "soft", "end")]


def _line(kind: str, x1: float, y1: float, x2: float, y2: float, more: str = "") -> str:
    return f'<line class="{kind}"{more} x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _rect(kind: str, x: float, y: float, width: float, height: float, rx: float = 0) -> str:
    return f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="{rx}"/>'


def _circle(kind: str, x: float, y: float, r: float, more: str = "") -> str:
    return f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="{r:.1f}"{more}/>'


def _whisker(x1: float, x2: float, y: float) -> str:
    return f'<path class="whisker" d="M{x1:.1f} {y - 4:.1f}v8M{x1:.1f} {y:.1f}H{x2:.1f}M{x2:.1f} {y - 4:.1f}v8"/>'


def _minus(text: str) -> str:
    return text.replace("-", "−") if re.fullmatch(r"[-+]?[\d.,]+[kMG]?", text) else text


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    classes = f' class="{kind}"' if kind else ""
    where = "" if anchor == "start" else f' text-anchor="{anchor}"'
    return f'<text{classes} x="{x:.1f}" y="{y:.1f}"{where}>{escape(text)}</text>'


def _svg(key: str, title: str, description: str, width: float, height: float, content: Sequence[str]) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9-]*", key):
        raise ValueError(f"a chart's key must be lower-case letters, digits and -, as it names elements, got {key!r}")
    return (
        f'<svg class="chart" role="img" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'aria-labelledby="{key}-title {key}-desc">'
        f'<title id="{key}-title">{escape(title)}</title><desc id="{key}-desc">{escape(description)}</desc>'
        + "".join(content)
        + "</svg>"
    )

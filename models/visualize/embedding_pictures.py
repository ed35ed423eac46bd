"""Pictures of an embedding as a whole, as SVG: distances of pairs, confusions, and a map in two dimensions."""

import html
from collections.abc import Sequence
from typing import Any

import numpy as np

from topkin.models.visualize.pictures import FONT, INK, QUIET, RIGHT, WRONG

COLOURS = ("#4269d0", "#b86e00", "#d6364f", "#2f8f83", "#3ca951", "#c4598a", "#8a5fd0", "#5b7fb8", "#9c6b4e", "#6b7280")
SHAPES = ("circle", "square", "diamond")


def distances_picture(
    same: np.ndarray,
    different: np.ndarray,
    *,
    threshold: float | None = None,
    bins: int = 40,
    title: str = "Distances of pairs",
) -> str:
    """How far apart pairs of one class and of two are: two outlines over one axis, each of area 1.

    same, different: (n,) distances, at least one each, finite. threshold: drawn as a line.
    """
    same, different = (np.asarray(x, np.float64).ravel() for x in (same, different))
    both = np.concatenate([same, different])
    if not len(same) or not len(different) or not np.isfinite(both).all():
        raise ValueError(f"distances must be finite, of both kinds, got {len(same)} same, {len(different)} different")
    edges = np.histogram_bin_edges(both, bins)
    width, height, left, top, floor = 640, 300, 24, 74, 256
    x = left + (width - 2 * left) * (edges - edges[0]) / max(edges[-1] - edges[0], 1e-12)
    heights = [np.histogram(values, edges, density=True)[0] for values in (same, different)]
    tallest = max(h.max() for h in heights)
    out = _begin(width, height, title)
    for number, (values, h, colour, name) in enumerate(
        zip((same, different), heights, (RIGHT, WRONG), ("of one class", "of two classes"), strict=True)
    ):
        y = floor - (floor - top) * h / tallest
        path = f"M{x[0]:.1f},{floor}" + "".join(f"V{y[i]:.1f}H{x[i + 1]:.1f}" for i in range(len(h)))
        dash = "" if number == 0 else " stroke-dasharray='6 3'"  # told apart without colour too
        out.append(f"<path d='{path}V{floor}' fill='{colour}' fill-opacity='.18' stroke='{colour}'{dash}/>")
        at = left + 300 * number
        out.append(f"<path d='M{at},46h22' stroke='{colour}' stroke-width='2'{dash}/>")
        out.append(_text(at + 28, 50, f"{len(values):,} pairs {name}, median {np.median(values):.2f}", QUIET))
    if threshold is not None and edges[0] <= threshold <= edges[-1]:
        at = np.interp(threshold, edges, x)
        out.append(f"<path d='M{at:.1f},{top - 6}V{floor}' stroke='{INK}' stroke-dasharray='2 3'/>")
        out.append(_text(min(at + 5, width - 110), top + 4, f"threshold {threshold:.2f}"))
    out.append(f"<path d='M{left},{floor}H{width - left}' stroke='{INK}'/>")
    for tick in np.linspace(edges[0], edges[-1], 6):
        out.append(_text(np.interp(tick, edges, x), floor + 18, f"{tick:.2f}", QUIET, anchor="middle"))
    out.append(_text(width / 2, height - 8, "distance", QUIET, anchor="middle"))
    return "\n".join([*out, "</svg>\n"])


def confusion_picture(labels: Sequence[Any], predicted: Sequence[Any], *, title: str = "Told as") -> str:
    """A table of classes: each row the share of a class told as each other, from 0 to 100 %.

    labels, predicted: (n,) classes of any sortable type, equally many.
    """
    if len(labels) != len(predicted) or not len(labels):
        raise ValueError(f"there must be a prediction for each label, got {len(labels)} and {len(predicted)}")
    names, codes = np.unique(np.concatenate([np.asarray(labels), np.asarray(predicted)]), return_inverse=True)
    true, told = np.split(codes.ravel(), 2)
    counts = np.zeros((len(names), len(names)))
    np.add.at(counts, (true, told), 1)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    words = [str(n) for n in names]
    margin = 24 + 7 * max(len(w) for w in words)
    cell = 50
    size = cell * len(names)
    out = _begin(margin + size + 24, 96 + size, title)
    note = f"rows: the true class; {np.trace(counts) / counts.sum():.1%} of {len(labels):,} rightly"
    out.append(_text(16, 46, note, QUIET))
    for i, word in enumerate(words):
        out.append(_text(margin - 8, 96 + cell * (i + 0.5), word, anchor="end"))
        out.append(_text(margin + cell * (i + 0.5), 82, word if len(word) <= 6 else word[:5] + "…", anchor="middle"))
        for j in range(len(words)):
            share = shares[i, j]
            colour, ink = (RIGHT, "#fff") if i == j else (WRONG, "#fff")
            out.append(
                f"<rect x='{margin + cell * j + 1}' y='{91 + cell * i}' width='{cell - 2}' height='{cell - 2}' "
                f"fill='{colour}' fill-opacity='{0.04 + 0.96 * share:.3f}'><title>{html.escape(word)} told as "
                f"{html.escape(words[j])}: {counts[i, j]:,.0f}</title></rect>"
            )
            if share >= 0.005:
                shown = f"{100 * share:.0f}"
                at = (margin + cell * (j + 0.5), 96 + cell * (i + 0.5))
                out.append(_text(*at, shown, ink if share > 0.6 else INK, anchor="middle"))
    return "\n".join([*out, "</svg>\n"])


def map_picture(vectors: np.ndarray, labels: Sequence[Any], *, title: str = "The embedding in two dimensions") -> str:
    """The rows in the plane of the two directions in which they vary most (principal components), by class.

    vectors: (n, d). labels: (n,) of any sortable type; classes differ in colour and shape, each is named in place.
    """
    x = np.asarray(vectors, np.float64)
    if x.ndim != 2 or len(x) != len(labels) or not len(x) or not np.isfinite(x).all():
        raise ValueError(f"there must be a label for each finite row, got rows {x.shape} and {len(labels)} labels")
    x = x - x.mean(axis=0)
    _, strengths, axes = np.linalg.svd(x, full_matrices=False)
    plane = np.zeros((len(x), 2))
    plane[:, : min(2, len(axes))] = x @ axes[:2].T
    told = float((strengths[:2] ** 2).sum() / max((strengths**2).sum(), 1e-30))
    names, codes = np.unique(np.asarray(labels), return_inverse=True)
    width, height, pad = 640, 560, 40
    low, span = plane.min(axis=0), np.maximum(np.ptp(plane, axis=0), 1e-12)
    at = (plane - low) / span * [width - 2 * pad, -(height - 120)] + [pad, height - pad]
    out = _begin(width, height, title)
    out.append(_text(16, 46, f"{len(x):,} rows; the two directions hold {told:.0%} of their variance", QUIET))
    for (px, py), code in zip(at, codes, strict=True):
        colour, shape = COLOURS[code % len(COLOURS)], SHAPES[code // len(COLOURS) % len(SHAPES)]
        if shape == "circle":
            out.append(f"<circle cx='{px:.1f}' cy='{py:.1f}' r='2.6' fill='{colour}' fill-opacity='.7'/>")
        else:
            turn = f" transform='rotate(45 {px:.1f} {py:.1f})'" if shape == "diamond" else ""
            box = f"x='{px - 2.4:.1f}' y='{py - 2.4:.1f}' width='4.8' height='4.8'"
            out.append(f"<rect {box} fill='{colour}' fill-opacity='.7'{turn}/>")
    taken: list[tuple[float, float, float]] = []
    for code, name in enumerate(names):
        px, py = np.median(at[codes == code], axis=0)
        wide = 7.5 * len(str(name))
        while any(abs(px - x) < (wide + w) / 2 and abs(py - y) < 14 for x, y, w in taken):
            py += 5
        taken.append((px, py, wide))
        halo = "stroke='#fff' stroke-width='4' paint-order='stroke' font-weight='600'"
        out.append(_text(px, py, str(name), INK, anchor="middle", more=halo))
    return "\n".join([*out, "</svg>\n"])


def _begin(width: int, height: int, title: str) -> list[str]:
    return [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' width='{width}' height='{height}' "
        f"role='img' aria-label='{html.escape(title, quote=True)}'>",
        f"<rect width='{width}' height='{height}' fill='#ffffff'/>",
        _text(16, 26, title, size=17, more="font-weight='600'"),
    ]


def _text(
    x: float, y: float, text: str, colour: str = INK, *, anchor: str = "start", size: int = 12, more: str = ""
) -> str:
    return (
        f"<text x='{x:.1f}' y='{y:.1f}' {FONT} font-size='{size}' fill='{colour}' text-anchor='{anchor}' {more}>"
        f"{html.escape(text)}</text>"
    )

"""Pictures of an embedding as Matplotlib figures: pairs, neighbours, distances, confusions, and a map.

``figure.savefig("pairs.svg")`` writes one; without pyplot, so that no window and no global state is involved.
Images are (height, width), (height, width, 1) grey or (height, width, 3), uint8 or fractions from 0 to 1.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from topkin.metrics.labels import values_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RIGHT, WRONG, INK, QUIET = "#1a7f4b", "#b3261e", "#1f2328", "#59636e"
COLOURS = ("#4269d0", "#b86e00", "#d6364f", "#2f8f83", "#3ca951", "#c4598a", "#8a5fd0", "#5b7fb8", "#9c6b4e", "#6b7280")
MARKERS = "osDv^"


def _figure(width: float, height: float, title: str, note: str = "") -> "Figure":
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("pictures need Matplotlib, which is not installed: pip install topkin[plots]") from error
    figure = Figure((width, height), layout="constrained")
    figure.suptitle(f"{title}\n", x=0.01, ha="left", weight="bold", color=INK)
    figure.text(0.01, 1 - 0.36 / height, note, va="top", size="small", color=QUIET)
    return figure


class Tile(NamedTuple):
    """Images side by side over their text; ``right`` gives its mark and colour (None: neither)."""

    images: Sequence[np.ndarray]
    text: str
    right: bool | None = None


def _grid(tiles: Sequence[Tile], columns: int, title: str, note: str) -> "Figure":
    if columns < 1:
        raise ValueError(f"columns must be at least 1, got {columns}")
    lines = -(-len(tiles) // columns)
    beside = max(len(tile.images) for tile in tiles)
    figure = _figure(0.2 + columns * (0.5 + 0.6 * beside), 0.8 + 1.2 * lines, title, note)
    axes = figure.subplots(lines, columns, squeeze=False).ravel()
    for ax in axes:
        ax.set_axis_off()
    for ax, tile in zip(axes, tiles, strict=False):
        images = [_bytes(np.asarray(image)) for image in tile.images]
        if any(i.dtype != np.uint8 or (i.ndim, *i.shape[2:]) not in ((2,), (3, 1), (3, 3)) for i in images):
            raise ValueError(
                "an image must be (h, w), (h, w, 1) or (h, w, 3) uint8, got "
                + ", ".join(f"{i.dtype} {i.shape}" for i in images)
            )
        images = [np.pad(i.reshape(*i.shape[:2], -1), ((0, 0), (0, 1), (0, 0)), constant_values=255) for i in images]
        ax.imshow(np.concatenate(images, axis=1), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        mark, colour = {None: ("", QUIET), True: ("✓ ", RIGHT), False: ("✗ ", WRONG)}[tile.right]
        place = {"transform": ax.transAxes, "ha": "center", "va": "top"}
        ax.text(0.5, -0.04, mark + tile.text, size="small", color=colour, **place)
    return figure


def _bytes(image: np.ndarray) -> np.ndarray:
    """An image of fractions, 0 to 1, as uint8; any other as it is."""
    fractions = image.dtype.kind == "f" and image.size and image.min() >= 0 and image.max() <= 1
    return (image * 255).round().astype(np.uint8) if fractions else image


def plot_pairs(
    rows: np.ndarray,
    first: Sequence[int],
    second: Sequence[int],
    distances: Sequence[float],
    alike: Sequence[float],
    *,
    threshold: float,
    names: Sequence[str] | None = None,
    title: str = "Pairs and their distance",
    columns: int = 6,
) -> "Figure":
    """A grid of pairs of images with their distance, marked right or wrong at ``threshold`` (below it, alike).

    Args:
        rows: (n, height, width, channels) uint8.
        first: (p,) row numbers; ``second``, ``distances`` and ``alike`` (1 for one label) are as long.
        second: see ``first``.
        distances: see ``first``.
        alike: see ``first``.
        threshold: the pair is called alike below it.
        names: of each row, shown below the distance.
        title: of the picture.
        columns: pairs beside each other.

    Raises:
        ValueError: an image of another shape or dtype, or no columns.
        ImportError: Matplotlib is not installed.

    Examples:
        >>> import numpy as np
        >>> from topkin.models import plot_pairs
        >>> images = np.zeros((2, 8, 8, 1), np.uint8)
        >>> plot_pairs(images, [0], [1], [0.2], [1], threshold=0.5).savefig("pairs.png")
    """
    tiles = []
    for a, b, distance, same in zip(first, second, distances, alike, strict=True):
        text = f"{distance:.2f}" if names is None else f"{distance:.2f}\n{names[a]} · {names[b]}"
        tiles.append(Tile([rows[a], rows[b]], text, bool((distance < threshold) == (same > 0.5))))
    note = f"Called alike below {threshold:.2f}. ✓ rightly, ✗ wrongly."
    return _grid(tiles, columns, title, note)


def plot_neighbours(
    queries: Sequence[np.ndarray],
    neighbours: Sequence[Sequence[Any]],
    right: Sequence[Sequence[bool | None]] | None = None,
    *,
    labels: object = None,
    title: str = "Queries and their nearest neighbours",
    texts: Sequence[Sequence[str]] | None = None,
) -> "Figure":
    """A line for each query: the query, then its neighbours from the nearest, each marked right or wrong.

    Args:
        queries: images.
        neighbours: of each query equally many images; or what ``SimilarityModel.lookup`` gives, where the pictures were
            indexed, ``index(x, y, data=x)``.
        right: for each neighbour, whether it is of the query's class; of a look-up it is told by ``labels``.
        labels: (q,) of the queries.
        title: of the picture.
        texts: below each neighbour; its rank unless given, of a look-up its label and score.

    Raises:
        ValueError: neither ``right`` nor a look-up, one of items that were indexed without data, or an image of another
            shape.

    Examples:
        >>> import numpy as np
        >>> from topkin.models import plot_neighbours
        >>> images = np.zeros((3, 8, 8), np.uint8)
        >>> plot_neighbours(images[:1], [images[1:]], [[True, False]]).savefig("neighbours.png")
    """
    if all(hasattr(n, "score") for row in neighbours for n in row):
        bare = sum(n.data is None for row in neighbours for n in row)
        if bare:
            raise ValueError(f"neighbours must have pictures, {bare} have none: index them by index(x, y, data=x)")
        named = [None] * len(neighbours) if labels is None else values_of(labels)
        texts = texts or [[f"{n.label}\n{n.score:.2f}" for n in row] for row in neighbours]
        if right is None:
            right = [
                [None if y is None else n.label == y for n in row] for row, y in zip(neighbours, named, strict=True)
            ]
        neighbours = [[n.data for n in row] for row in neighbours]
    if right is None:
        raise ValueError("right must say of each image whether it is of the query's class, got None: give it")
    tiles = []
    for q, (query, shown, marks) in enumerate(zip(queries, neighbours, right, strict=True)):
        tiles.append(Tile([query], "query"))
        for n, (image, mark) in enumerate(zip(shown, marks, strict=True)):
            tiles.append(Tile([image], str(n + 1) if texts is None else texts[q][n], mark))
    note = "✓ the query's class, ✗ another." if tiles[-1].right is not None else ""
    return _grid(tiles, 1 + len(neighbours[0]), title, note)


def _axes(width: float, height: float, title: str, note: str = "") -> tuple["Figure", "Axes"]:
    figure = _figure(width, height, title, note)
    return figure, figure.subplots()


def plot_distances(
    same: ArrayLike,
    different: ArrayLike,
    *,
    threshold: float | None = None,
    bins: int = 40,
    title: str = "Distances of pairs",
) -> "Figure":
    """How far apart pairs of one class and of two are: two histograms over one axis, each of area 1.

    Args:
        same: (n,) finite distances, at least one.
        different: (m,) likewise.
        threshold: drawn as a line.
        bins: of the histograms.
        title: of the picture.

    Raises:
        ValueError: a distance that is not finite, or none of a kind.

    Examples:
        >>> from topkin.models import plot_distances
        >>> plot_distances([0.1, 0.2], [0.8, 1.0], threshold=0.5).axes[0].get_xlabel()
        'distance'
    """
    same, different = (np.asarray(x, np.float64).ravel() for x in (same, different))
    both = np.concatenate([same, different])
    if not len(same) or not len(different) or not np.isfinite(both).all():
        raise ValueError(f"distances must be finite, of both kinds, got {len(same)} same, {len(different)} different")
    figure, ax = _axes(8, 3.8, title)
    edges = np.histogram_bin_edges(both, bins).tolist()
    for values, colour, line, name in ((same, RIGHT, "-", "one class"), (different, WRONG, "--", "two classes")):
        label = f"{len(values):,} pairs of {name}, median {np.median(values):.2f}"
        ax.hist(values, edges, density=True, histtype="stepfilled", fc=f"{colour}30", ec=colour, ls=line, label=label)
    if threshold is not None:
        ax.axvline(threshold, color=INK, ls=":", label=f"threshold {threshold:.2f}")
    ax.set(xlabel="distance", yticks=[])
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3, frameon=False, fontsize="small")
    return figure


def plot_confusion(labels: ArrayLike, predicted: ArrayLike, *, title: str = "Predicted as") -> "Figure":
    """A table of classes: of each true class (a row) the share predicted as each, in percent.

    Args:
        labels: (n,) classes of any sortable type.
        predicted: (n,) likewise.
        title: of the picture.

    Raises:
        ValueError: none, or unequally many.

    Examples:
        >>> from topkin.models import plot_confusion
        >>> plot_confusion(["a", "a", "b"], ["a", "b", "b"]).savefig("confusion.png")
    """
    true, other = np.asarray(labels), np.asarray(predicted)
    if len(true) != len(other) or not len(true):
        raise ValueError(f"there must be a prediction for each label, got {len(true)} and {len(other)}")
    names, codes = np.unique(np.concatenate([true, other]), return_inverse=True)
    counts = np.zeros((len(names), len(names)))
    np.add.at(counts, tuple(np.split(codes.ravel(), 2)), 1)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size = 1.6 + 0.45 * len(names)
    note = f"rows: the true class; {np.trace(counts) / counts.sum():.1%} of {len(true):,} right"
    figure, ax = _axes(max(size, 4.5), size + 0.6, title, note)
    ax.imshow(shares * np.where(np.eye(len(names)), 1, -1), cmap="PRGn", vmin=-1, vmax=1)
    ax.set_xticks(range(len(names)), names, rotation=45, ha="left")
    ax.set_yticks(range(len(names)), names)
    ax.tick_params(top=True, labeltop=True, bottom=False, labelbottom=False)
    for i, j in np.argwhere(shares >= 0.005):
        ink = "white" if shares[i, j] > 0.6 else INK
        ax.text(j, i, f"{100 * shares[i, j]:.0f}", ha="center", va="center", size="small", color=ink)
    return figure


def plot_map(vectors: np.ndarray, labels: ArrayLike, *, title: str = "The embedding in two dimensions") -> "Figure":
    """Embeddings in the plane of the two directions in which they vary most (principal components), by class.

    Args:
        vectors: (n, d) finite.
        labels: (n,) of any sortable type; classes differ in colour and marker, each is named in place.
        title: of the picture.

    Raises:
        ValueError: not a label for each row, or a row that is not finite.

    Examples:
        >>> import numpy as np
        >>> from topkin.models import plot_map
        >>> plot_map(np.eye(3), ["a", "b", "c"]).savefig("map.png")
    """
    x, classes = np.asarray(vectors, np.float64), np.asarray(labels)
    if x.ndim != 2 or len(x) != len(classes) or not len(x) or not np.isfinite(x).all():
        raise ValueError(f"there must be a label for each finite row, got rows {x.shape} and {len(classes)} labels")
    x = x - x.mean(axis=0)
    _, strengths, directions = np.linalg.svd(x, full_matrices=False)
    plane = np.zeros((len(x), 2))
    plane[:, : min(2, len(directions))] = x @ directions[:2].T
    share = float((strengths[:2] ** 2).sum() / max((strengths**2).sum(), 1e-30))
    figure, ax = _axes(8, 7, title, f"{len(x):,} rows; the two directions hold {share:.0%} of their variance")
    names, codes = np.unique(classes, return_inverse=True)
    width, height = np.maximum(np.ptp(plane, axis=0), 1e-12)
    placed: list[tuple[float, float, int]] = []
    for code, name in enumerate(names):
        own = plane[codes == code]
        at, up = np.median(own, axis=0)
        letters = len(str(name))
        while any(abs(at - a) < 0.007 * width * (letters + n) and abs(up - u) < 0.03 * height for a, u, n in placed):
            up += 0.01 * height  # a name must not cover another
        placed.append((at, up, letters))
        colour, marker = COLOURS[code % len(COLOURS)], MARKERS[code // len(COLOURS) % len(MARKERS)]
        ax.scatter(own[:, 0], own[:, 1], s=14, alpha=0.7, color=colour, marker=marker, lw=0)
        box = {"fc": "white", "ec": "none", "alpha": 0.7, "pad": 1.5}
        ax.text(at, up, str(name), ha="center", va="center", weight="bold", color=INK, bbox=box)
    ax.set_axis_off()
    return figure

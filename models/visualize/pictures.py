"""Pictures of what an encoder does, as SVG with the images in it: no other file, no plotting library.

Images are (height, width) or (height, width, 1) grey, or (height, width, 3), uint8.
"""

import base64
import html
import struct
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

RIGHT, WRONG, INK, QUIET = "#1a7f4b", "#b3261e", "#1f2328", "#59636e"
FONT = "font-family='system-ui, sans-serif'"


def png(image: np.ndarray) -> bytes:
    """An image as a PNG file. Raises ValueError for another shape or dtype."""
    image = np.asarray(image)
    image = image[..., 0] if image.ndim == 3 and image.shape[2] == 1 else image
    if image.dtype != np.uint8 or not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)):
        raise ValueError(f"an image must be (h, w), (h, w, 1) or (h, w, 3) uint8, got {image.dtype} {image.shape}")
    height, width = image.shape[:2]
    # Each line of a PNG begins with the number of its filter; 0 is none.
    lines = np.concatenate([np.zeros((height, 1), np.uint8), image.reshape(height, -1)], axis=1)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0 if image.ndim == 2 else 2, 0, 0, 0)
    body = zlib.compress(lines.tobytes(), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


class Tile(NamedTuple):
    """Images side by side with a line of text below; ``right`` colours its mark (None: no mark)."""

    images: Sequence[np.ndarray]
    text: str
    right: bool | None = None


def pairs_picture(
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
) -> str:
    """A grid of pairs with their distance, marked right or wrong at ``threshold`` (below it, alike).

    rows: (n, height, width, channels) uint8. first, second: row numbers of each pair. names: of each row.
    """
    tiles = []
    for a, b, distance, same in zip(first, second, distances, alike, strict=True):
        right = (distance < threshold) == (same > 0.5)
        text = f"{distance:.2f}" if names is None else f"{distance:.2f}\n{names[a]} · {names[b]}"
        tiles.append(Tile([rows[a], rows[b]], text, right))
    note = f"Told alike below {threshold:.2f}. ✓ rightly, ✗ wrongly told."
    return grid(tiles, title=title, note=note, columns=columns)


def neighbours_picture(
    queries: Sequence[np.ndarray],
    neighbours: Sequence[Sequence[np.ndarray]],
    right: Sequence[Sequence[bool]],
    *,
    title: str = "Queries and their nearest neighbours",
    texts: Sequence[Sequence[str]] | None = None,
) -> str:
    """A row for each query: the query, then its neighbours from the nearest, each marked right or wrong."""
    tiles = []
    for q, (query, found, marks) in enumerate(zip(queries, neighbours, right, strict=True)):
        tiles.append(Tile([query], "query"))
        for n, (image, mark) in enumerate(zip(found, marks, strict=True)):
            tiles.append(Tile([image], str(n + 1) if texts is None else texts[q][n], bool(mark)))
    columns = 1 + max((len(found) for found in neighbours), default=0)
    return grid(tiles, title=title, note="✓ the query's class, ✗ another.", columns=columns)


def grid(tiles: Sequence[Tile], *, title: str, note: str = "", columns: int = 6, size: int = 56) -> str:
    """Tiles in rows of ``columns``, as one SVG. ``size``: the width of an image in pixels."""
    if columns < 1:
        raise ValueError(f"columns must be at least 1, got {columns}")
    most = max((len(tile.images) for tile in tiles), default=1)
    lines = max((tile.text.count("\n") + 1 for tile in tiles), default=1)
    letters = max((len(line) for tile in tiles for line in tile.text.split("\n")), default=1)
    wide = max(most * (size + 4), round(letters * 6.2) + 18) + 14
    tall = size + 20 + 15 * lines
    width = max(columns * wide + 16, round(max(len(title) * 9, len(note) * 6.5)) + 32)
    height = 64 + tall * -(-len(tiles) // columns)
    out = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' width='{width}' height='{height}' "
        f"role='img' aria-label='{html.escape(title, quote=True)}'>",
        f"<rect width='{width}' height='{height}' fill='#ffffff'/>",
        f"<text x='16' y='26' {FONT} font-size='17' font-weight='600' fill='{INK}'>{html.escape(title)}</text>",
        f"<text x='16' y='46' {FONT} font-size='12' fill='{QUIET}'>{html.escape(note)}</text>",
    ]
    for number, tile in enumerate(tiles):
        x, y = 16 + wide * (number % columns), 60 + tall * (number // columns)
        for place, image in enumerate(tile.images):
            data = base64.b64encode(png(image)).decode()
            out.append(
                f"<image x='{x + place * (size + 4)}' y='{y}' width='{size}' height='{size}' "
                f"style='image-rendering:pixelated' href='data:image/png;base64,{data}'/>"
            )
        for line, text in enumerate(tile.text.split("\n")):
            mark = "" if tile.right is None or line else ("✓ " if tile.right else "✗ ")
            colour = QUIET if line or tile.right is None else (RIGHT if tile.right else WRONG)
            out.append(
                f"<text x='{x}' y='{y + size + 16 + 15 * line}' {FONT} font-size='12' fill='{colour}'>"
                f"{mark}{html.escape(text)}</text>"
            )
    return "\n".join([*out, "</svg>\n"])

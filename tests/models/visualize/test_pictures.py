"""Pictures: PNGs that decode to what they were made of, SVG that parses and tells right from wrong."""

import base64
import struct
import xml.etree.ElementTree as ET
import zlib
from typing import Any

import numpy as np
import pytest

from topkin.models.visualize.pictures import neighbours_picture, pairs_picture, png

RNG = np.random.default_rng(0)


def decode(data: bytes) -> np.ndarray:
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    at, chunks = 8, {}
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        assert struct.unpack(">I", data[at + 8 + length : at + 12 + length])[0] == zlib.crc32(kind + body)
        chunks[kind], at = body, at + 12 + length
    width, height, depth, colour = struct.unpack(">IIBB", chunks[b"IHDR"][:10])
    assert depth == 8
    lines = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, -1)
    assert not lines[:, 0].any()
    return lines[:, 1:].reshape((height, width) if colour == 0 else (height, width, 3))


@pytest.mark.parametrize("shape", [(5, 3), (5, 3, 1), (4, 6, 3), (1, 1)])
def test_a_png_decodes_to_its_image(shape: tuple[int, ...]) -> None:
    image = RNG.integers(0, 256, shape).astype(np.uint8)
    assert (decode(png(image)) == image.reshape(decode(png(image)).shape)).all()


@pytest.mark.parametrize("image", [np.zeros((3, 3)), np.zeros((3, 3, 2), np.uint8), np.zeros(3, np.uint8)])
def test_what_is_no_image_is_explained(image: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"an image must be \(h, w\)"):
        png(image)


def parsed(svg: str) -> tuple[list[np.ndarray], list[str]]:
    root = ET.fromstring(svg)
    kind = "{http://www.w3.org/2000/svg}"
    pictures = [decode(base64.b64decode(e.attrib["href"].split(",")[1])) for e in root.iter(f"{kind}image")]
    for element in root.iter():
        for side, size in (("x", "width"), ("y", "height")):
            if side in element.attrib:
                assert 0 <= float(element.attrib[side]) <= float(root.attrib[size])
    return pictures, [e.text or "" for e in root.iter(f"{kind}text")]


def test_a_picture_of_pairs_holds_both_images_their_distance_and_whether_it_is_right() -> None:
    rows = RNG.integers(0, 256, (4, 5, 5, 1)).astype(np.uint8)
    svg = pairs_picture(
        rows, [0, 2], [1, 3], [0.25, 0.75], [1, 1], threshold=0.5, names=["<a>", "b", "c", "d"], title="P & Q"
    )
    pictures, texts = parsed(svg)
    assert all((got == want[..., 0]).all() for got, want in zip(pictures, rows, strict=True))
    assert texts == [
        "P & Q",
        "Told alike below 0.50. ✓ rightly, ✗ wrongly told.",
        "✓ 0.25",
        "<a> · b",
        "✗ 0.75",
        "c · d",
    ]


def test_a_picture_of_neighbours_has_a_line_for_each_query() -> None:
    rows: Any = RNG.integers(0, 256, (6, 5, 5)).astype(np.uint8)
    pictures, texts = parsed(neighbours_picture(rows[:2], [rows[2:4], rows[4:6]], [[True, False], [False, True]]))
    assert all((got == want).all() for got, want in zip(pictures, rows[[0, 2, 3, 1, 4, 5]], strict=True))
    assert texts[2:] == ["query", "✓ 1", "✗ 2", "query", "✗ 1", "✓ 2"]

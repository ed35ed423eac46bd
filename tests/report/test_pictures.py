"""Pictures inside a page are PNG files of the pixels that were given."""

import base64
import struct
import zlib

import numpy as np
import pytest

from topkin.report.pictures import MOST, data_uri, png


def read(data: bytes) -> np.ndarray:
    """The pixels of an unfiltered 8-bit PNG, (height, width, channels)."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    at, chunks = 8, {}
    while at < len(data):
        (size,), name = struct.unpack(">I", data[at : at + 4]), data[at + 4 : at + 8]
        body = data[at + 8 : at + 8 + size]
        assert struct.unpack(">I", data[at + 8 + size : at + 12 + size]) == (zlib.crc32(name + body),)
        chunks[name], at = body, at + 12 + size
    width, height, depth, colour = struct.unpack(">IIBB", chunks[b"IHDR"][:10])
    assert depth == 8
    channels = {0: 1, 2: 3, 6: 4}[colour]
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, 1 + width * channels)
    assert not rows[:, 0].any()
    return rows[:, 1:].reshape(height, width, channels)


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 1), (4, 3, 3), (1, 1, 4)])
def test_pixels_come_back(shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    assert np.array_equal(read(png(pixels)), pixels.reshape(*shape[:2], -1))


def test_what_is_no_byte_is_cut_to_one() -> None:
    assert read(png(np.array([[-3.0, 300.0, np.nan, 7.9]])))[0, :, 0].tolist() == [0, 255, 0, 7]


@pytest.mark.parametrize("shape", [(4,), (4, 4, 2), (2, 2, 2, 2), (0, 3)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"a picture must be \(height, width\)"):
        png(np.zeros(shape, np.uint8))


def test_large_pictures_are_thinned_out() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3 * MOST, 10)).astype(np.uint8)
    head, _, body = data_uri(pixels).partition(",")
    assert head == "data:image/png;base64"
    assert np.array_equal(read(base64.b64decode(body))[:, :, 0], pixels[::3, ::3])

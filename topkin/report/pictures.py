"""Small pictures inside a page, which needs no other file."""

import base64
import struct
import zlib

import numpy as np

MOST = 96
"""Pixels of a picture's longer side, at most."""


def png(pixels: np.ndarray) -> bytes:
    """A picture as a PNG file (ISO/IEC 15948).

    Args:
        pixels: (height, width), or (height, width, channels) of 1, 3 or 4; 0 to 255, which others are cut to.

    Raises:
        ValueError: Another shape.
    """
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    colour = {2: 0}.get(pixels.ndim, {3: 2, 4: 6}.get(pixels.shape[-1]))
    if pixels.ndim not in (2, 3) or colour is None or not pixels.size:
        raise ValueError(f"a picture must be (height, width) or (height, width, 1, 3 or 4), got {pixels.shape}")
    rows = np.clip(np.nan_to_num(pixels), 0, 255).astype(np.uint8).reshape(len(pixels), -1)
    unfiltered = np.hstack([np.zeros((len(rows), 1), np.uint8), rows])
    head = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 8, colour, 0, 0, 0)
    parts = [(b"IHDR", head), (b"IDAT", zlib.compress(unfiltered.tobytes(), 9)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, data) for name, data in parts)


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def data_uri(pixels: np.ndarray, most: int = MOST) -> str:
    """A picture as an address that holds it; every other row and column of one larger than ``most``, or fewer."""
    step = -(-max(pixels.shape[:2]) // most)
    return f"data:image/png;base64,{base64.b64encode(png(pixels[::step, ::step])).decode()}"

"""The digests of a file: of the whole, and of the blocks that are verified one by one."""

import hashlib
from collections.abc import Mapping
from typing import Any

BLOCK = 4 << 20
"""Bytes that are verified together, and that one request to an object store reads."""


def digests(stream: Any) -> dict[str, Any]:
    """The entry of a manifest for a file: ``bytes``, ``sha256`` and, of several blocks, theirs in half the length."""
    whole, blocks, size = hashlib.sha256(), [], 0
    while block := stream.read(BLOCK):
        whole.update(block)
        blocks.append(of_block(block))
        size += len(block)
    return {"bytes": size, "sha256": whole.hexdigest(), **({"blocks": blocks} if len(blocks) > 1 else {})}


def of_block(block: bytes) -> str:
    """The digest of one block of several."""
    return hashlib.sha256(block).hexdigest()[:32]


def as_text(entry: Mapping[str, Any]) -> str:
    """The digests of an entry in one line."""
    return " ".join([entry["sha256"], *entry.get("blocks", ())])


def from_text(text: str, size: int) -> dict[str, Any] | None:
    """The entry of a file of ``size`` bytes whose digests :func:`as_text` wrote; None for another text."""
    sha256, *blocks = text.split(" ")
    several = -(-size // BLOCK) if size > BLOCK else 0
    if len(sha256) != 64 or len(blocks) != several:
        return None
    return {"bytes": size, "sha256": sha256, **({"blocks": blocks} if blocks else {})}

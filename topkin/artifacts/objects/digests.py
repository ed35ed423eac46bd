"""The digests of a file: of the whole, and of the blocks that are verified one by one."""

import hashlib
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

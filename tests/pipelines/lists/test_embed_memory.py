"""What embeds items is gone when users are pooled."""

import gc
from dataclasses import replace
from pathlib import Path

import pytest

from tests.pipelines.lists.test_shop_rules import job_of
from topkin.pipelines import embed
from topkin.transforms import embed as transform


@pytest.mark.slow
def test_the_items_encoder_is_not_beside_that_of_users(
    tmp_path: Path, shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside: dict[str, set[tuple[bool, bool]]] = {"embed items": set(), "embed users": set()}

    def look(kind: str, rows: int, of: int | None) -> None:
        living = [type(o) for o in gc.get_objects() if isinstance(o, (transform.ItemEncoder, transform.UserEncoder))]
        beside[kind].add((transform.ItemEncoder in living, transform.UserEncoder in living))

    monkeypatch.setattr(transform, "advance", look)
    job = job_of(shop, "embeddings")
    embed.STAGE.execute(replace(job, out=str(tmp_path / "out"), scratch=str(tmp_path / "scratch")))
    assert beside == {"embed items": {(True, False)}, "embed users": {(False, True)}}

"""An output folder with nights of tiny sealed stages, made without any job."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count

import pytest

from topkin.artifacts import manifest, runs, sealing, stage_index, storage

_minutes = count()
STAGES = {"prepare": "prepared", "train": "model", "recommend": "recommendations"}


def make_night(root: str, day: int, *, reuse: dict[str, runs.Run] | None = None, publish: bool = True) -> runs.Run:
    """A run of a day of May, made a minute after the last; stages of ``reuse`` are taken from the runs named there."""
    run = runs.Run(root, f"2024-05-{day:02d}-n", datetime(2024, 5, day))
    for stage, name in STAGES.items():
        place, key = f"runs/{run.run_id}/{name}", f"{stage}-{day}"
        if reuse and stage in reuse:
            place = reuse[stage].folder(stage).removeprefix(f"{root}/")
            key = manifest.read(storage.join(root, place))["key"]
        else:
            storage.write_bytes(f"{stage} of {day}".encode(), f"{root}/{place}/part.bin")
            manifest.seal(f"{root}/{place}", stage=stage, key=key, summary={"users": 10 * day, "items": day})
            stage_index.note(root, key, place)
        run = runs.record_stage(run, stage, {"key": key, "folder": place}, {})
    path = f"{run.path}/run.json"
    made_at = datetime(2024, 6, 1, tzinfo=UTC) + timedelta(minutes=next(_minutes))
    storage.write_json(sealing.sealed(storage.read_json(path) | {"made_at": made_at.isoformat()}), path)
    if publish:
        runs.publish_run(run, older=True)
    return run


@pytest.fixture
def night(tmp_path) -> Callable[..., runs.Run]:
    """Makes nights below ``tmp_path``."""
    return partial(make_night, str(tmp_path))

"""What stages read of runs that were published before their date."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from topkin.artifacts import manifest, runs
from topkin.config.items_run import RunSettingsOfAnyKind
from topkin.pipelines.engine import registry
from topkin.pipelines.engine.job import EarlierVersion
from topkin.pipelines.engine.registry import ORDERS


@dataclass(frozen=True, kw_only=True)
class EarlierRuns:
    """What one stage reads: folders of the run published before, by stage, and the versions of several days before."""

    folders: Mapping[str, str]
    versions: Sequence[EarlierVersion]

    @property
    def identity(self) -> dict[str, Any]:
        """What of it is part of the stage's key: the keys of the folders."""
        versions = [[version.days, version.run_id, _keys(version.folders)] for version in self.versions]
        return {"before": _keys(self.folders), "versions": versions}


def _keys(folders: Mapping[str, str]) -> dict[str, str | None]:
    return {stage: (manifest.read(folder) or {}).get("key") for stage, folder in folders.items()}


def earlier_runs(settings: RunSettingsOfAnyKind, as_of: datetime) -> dict[str, EarlierRuns]:
    """What every stage reads of the runs published before a date, as far as it is there."""
    stages = {name: registry.stage(name, settings.kind) for name in ORDERS[settings.kind]}
    asked = {name: stage.earlier(settings) for name, stage in stages.items()}
    run = runs.published_before(settings.run.output, as_of) if any(asked.values()) else None
    before = {} if run is None else run.folders
    earlier = {}
    for name, stage in stages.items():
        want = stage.versions(settings)
        old = runs.published_by_age(settings.run.output, as_of, want.days, want.stages)
        earlier[name] = EarlierRuns(
            folders={other: before[other] for other in asked[name] if other in before},
            versions=[
                EarlierVersion(
                    days=days, run_id=run.run_id, as_of=run.as_of, folders={s: run.folders[s] for s in want.stages}
                )
                for days, run in old.items()
            ],
        )
    return earlier

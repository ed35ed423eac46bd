"""The runs of an output folder and why each is there: live, pinned, kept to go back to, or not needed any more."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from topkin.artifacts import manifest, runs, storage
from topkin.errors import ArtifactError, ConfigError, nearest_name

PIN = "pinned.json"
NEWEST = 3
"""Runs that a message names, at most."""
LIVE, PINNED, KEPT, UNPUBLISHED, OLD = "live", "pinned", "kept", "unpublished", "old"


@dataclass(frozen=True)
class Version:
    """A run as a list shows it.

    Args:
        run_id: Its name.
        state: ``live``; ``pinned``; ``kept``, one of the last ``run.keep`` published; ``unpublished``, made since the
            oldest of these; ``old``, what the next collection deletes.
        run: Its stages' folders; None where its ``run.json`` cannot be read.
        made_at: When a stage was last recorded, in UTC.
    """

    run_id: str
    state: str
    run: runs.Run | None
    made_at: datetime | None


@dataclass(frozen=True)
class Figures:
    """A run's size and what its stages counted, of those that are finished.

    Args:
        bytes: All that lies in the run's own folder; stages reused from earlier runs lie there.
        users, items: As its tables have them.
        lists: Users with a list.
        metric, value: The figure of its verdict, None where nothing was held out.
        anyway: Why it was published though gates refused it; None where it was not.
    """

    bytes: int
    users: int | None = None
    items: int | None = None
    lists: int | None = None
    metric: str | None = None
    value: float | None = None
    anyway: str | None = None


@dataclass(frozen=True)
class Entry:
    """A row of ``topkin runs``."""

    version: Version
    figures: Figures = field(default_factory=lambda: Figures(0))

    def to_json(self) -> dict[str, Any]:
        """As JSON can hold it."""
        run, made_at = self.version.run, self.version.made_at
        return {
            "run_id": self.version.run_id,
            "state": self.version.state,
            "as_of": run and run.as_of.isoformat(),
            "made_at": made_at and made_at.isoformat(),
            "stages": [] if run is None else list(run.folders),
            **asdict(self.figures),
        }


def versions(root: str, keep: int) -> list[Version]:
    """All runs, those made last first. A ``run.json`` that cannot be read is a warning."""
    read = {run_id: runs.read_if_there(root, run_id) for run_id in runs.run_ids(root)}
    times_of = {run_id: _made_at(root, run_id) for run_id, run in read.items() if run is not None}
    pointer = runs.pointer(root)
    live = pointer["run_id"] if pointer else None
    published = [live, *reversed(pointer["history"])] if pointer else []
    kept = [run_id for run_id in published if run_id in read][:keep]
    times = [time for run_id in kept if (time := times_of.get(run_id))]
    since = min(times) if len(kept) >= keep and times else None

    def state(run_id: str) -> str:
        if run_id == live:
            return LIVE
        if storage.read_if_there(storage.join(root, "runs", run_id, PIN)) is not None:
            return PINNED
        if run_id in kept:
            return KEPT
        time = times_of.get(run_id)
        young = time is not None and (since is None or time >= since)
        return UNPUBLISHED if young and run_id not in published else OLD

    listed = [Version(run_id, state(run_id), run, times_of.get(run_id)) for run_id, run in read.items()]
    oldest = datetime.min.replace(tzinfo=UTC)
    return sorted(listed, key=lambda v: (v.made_at or oldest, v.run_id), reverse=True)


def _made_at(root: str, run_id: str) -> datetime | None:
    try:
        return datetime.fromisoformat(storage.read_json(storage.join(root, "runs", run_id, "run.json"))["made_at"])
    except (ArtifactError, ValueError, KeyError, TypeError):
        return None


def figures(root: str, version: Version) -> Figures:
    """What a run takes and what its stages counted, from their manifests."""
    size = storage.folder_size(storage.join(root, "runs", version.run_id))
    if version.run is None:
        return Figures(size)
    summaries = dict(_summaries(version.run))
    prepared, judged = summaries.get("prepare", {}), summaries.get("evaluate", {})
    metric = next((n for n, value in judged.items() if isinstance(value, float)), None)
    return Figures(
        bytes=size,
        users=prepared.get("users"),
        items=prepared.get("items"),
        lists=summaries.get("recommend", {}).get("users_with_list"),
        metric=metric,
        value=None if metric is None else judged[metric],
        anyway=_reason(version.run),
    )


def _reason(run: runs.Run) -> str | None:
    path = storage.join(run.path, runs.ANYWAY)
    return str(storage.read_json(path)["reason"]) if storage.exists(path) else None


def _summaries(run: runs.Run) -> Iterator[tuple[str, dict[str, Any]]]:
    for stage, folder in run.folders.items():
        try:
            sealed = manifest.read(folder)
            yield stage, dict(sealed["summary"]) if sealed else {}
        except (ArtifactError, KeyError, TypeError, ValueError) as e:
            runs.log.warning("%s/%s cannot be read: its figures are left out (%s)", folder, manifest.NAME, e)


def entries(root: str, keep: int) -> list[Entry]:
    """What ``topkin runs`` lists."""
    return [Entry(version, figures(root, version)) for version in versions(root, keep)]


def named(root: str, name: str) -> str:
    """The run of a name, of the one name that begins so, or of ``live``. Raises ConfigError or ArtifactError."""
    known = runs.run_ids(root)
    pointer = runs.pointer(root) if name == LIVE else None
    if name == LIVE and pointer is None:
        raise ArtifactError(f"{root} has no published run: topkin run makes one, --run names another")
    wanted = pointer["run_id"] if pointer else name
    if pointer is not None and wanted not in known:
        runs.published(root)  # raises, and says that it is gone
    begins = [run_id for run_id in known if run_id.startswith(wanted)]
    if wanted in known or len(begins) == 1:
        return wanted if wanted in known else begins[0]
    if begins:
        raise ConfigError(f"a run is named by the beginning of its name alone; {name} begins {', '.join(begins)}")
    near = nearest_name(name, known)
    hint = f", did you mean {near}?" if near else f"; it has {', '.join(known[-NEWEST:]) or 'none'}"
    raise ConfigError(f"there is no run {name} in {root}{hint} (topkin runs lists them)")


def pin(root: str, run_id: str) -> None:
    """Keep a run whatever comes after it."""
    storage.write_json({"pinned_at": _now()}, storage.join(root, "runs", run_id, PIN))


def unpin(root: str, run_id: str) -> bool:
    """Let a run go when its time comes. Returns whether it was pinned."""
    path = storage.join(root, "runs", run_id, PIN)
    seen = storage.read_if_there(path)
    return seen is not None and storage.swap(path, seen, None)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")

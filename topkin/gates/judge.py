"""The gates of a finished run beside the live one, of either kind."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from topkin.artifacts import manifest, storage
from topkin.config.items_run import ItemsRunSettings, RunSettingsOfAnyKind
from topkin.errors import ArtifactError
from topkin.gates import figures, items, purchases
from topkin.gates.compare import common_of, unknown_items
from topkin.gates.gate import NOT_ASKED, PASSED, REFUSED, Gate

READS = {"purchases": ("prepare", "embed", "index", "recommend"), "items": ("prepare", "embed", "index")}
"""By the kind of run the stages that the figures of a version, this or the live one, are read from."""
FILE = "gates.json"
SHOWN = 4
"""Names of gates in a line."""


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What the gates found.

    Attributes:
        gates: All that are on, in their order.
        figures: Those of the version.
        live: Those of the live version; empty where nothing is live.
        common: What both have in common; likewise.
    """

    gates: Sequence[Gate]
    figures: Mapping[str, Any]
    live: Mapping[str, Any]
    common: Mapping[str, Any]

    def of(self, verdict: str) -> list[Gate]:
        """The gates with a verdict."""
        return [gate for gate in self.gates if gate.verdict == verdict]

    @property
    def counts(self) -> dict[str, int]:
        """How many gates have passed, are refused and were not asked."""
        return {verdict: len(self.of(verdict)) for verdict in (PASSED, REFUSED, NOT_ASKED)}

    @property
    def unasked(self) -> list[str]:
        """The gates that were not asked, by their reason: a line each."""
        by_reason: dict[str, list[str]] = {}
        for gate in self.of(NOT_ASKED):
            by_reason.setdefault(gate.sentence, []).append(gate.name)
        return [f"gates not asked, {why}: {_some(names)}" for why, names in by_reason.items()]

    def to_json(self) -> dict[str, Any]:
        """The content of ``gates.json``."""
        return {
            "gates": [asdict(gate) for gate in self.gates],
            "figures": self.figures,
            "live": self.live,
            "common": self.common,
        }


def _is_kind(live: Mapping[str, str], kind: str) -> bool:
    """Whether the live version is there and has purchases where it should."""
    if "prepare" not in live:
        return False
    statistics = storage.read_json(storage.join(live["prepare"], "statistics.json"))
    return ("events" in statistics) == (kind == "purchases")


def damage(folders: Mapping[str, str]) -> str | None:
    """What is wrong with sealed folders, in topkin's words; None where every file is as it was written."""
    try:
        for folder in folders.values():
            if storage.exists(storage.join(folder, manifest.NAME)):
                manifest.verify(folder)
    except ArtifactError as e:
        return str(e)
    return None


def _some(names: Sequence[str]) -> str:
    left = len(names) - SHOWN
    return ", ".join(names) if left < 2 else f"{', '.join(names[:SHOWN])} and {left} more"


def judge(settings: RunSettingsOfAnyKind, now: Mapping[str, str], live: Mapping[str, str]) -> Judgement:
    """Ask every gate of ``[publish]``.

    Args:
        settings: The configuration of the run.
        now: The folders of its finished stages.
        live: Those of the live version, as far as they are there; empty where nothing of this kind is live. A version
            that is damaged is none, and a gate says so: it must not keep its successor from being published.
    """
    damaged = damage(live)
    live = {} if damaged else live
    metrics = storage.read_json(storage.join(now["evaluate"], "metrics.json")) if "evaluate" in now else None
    live = live if _is_kind(live, settings.kind) else {}
    if isinstance(settings, ItemsRunSettings):
        before = figures.of_items(live) if live else {}
        own = figures.of_items(now)
        unknown = unknown_items(now, live) if live else None
        common = {"unknown items": unknown}
        assert metrics is not None
        asked = items.gates(settings.publish, own, before, unknown, metrics)
    else:
        own, before = figures.of_purchases(now), figures.of_purchases(live)
        common = common_of(now, live, own, before)
        hindsight = storage.read_json(storage.join(now["hindsight"], "hindsight.json")) if "hindsight" in now else None
        asked = purchases.gates(settings.publish, own, before, common, metrics, hindsight)
    unread: list[Gate] = []
    if damaged:
        why = f"the live version cannot be read: {damaged}"
        unread = [Gate(name="live version", key="publish", verdict=NOT_ASKED, sentence=why)]
    return Judgement(gates=[*asked, *unread], figures=own, live=before, common=common)

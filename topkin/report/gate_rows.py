"""What the gates found, as the page shows it."""

from collections.abc import Sequence
from typing import Protocol


class GateRow(Protocol):
    """A gate and its verdict; ``topkin.gates.gate.Gate`` is one."""

    @property
    def name(self) -> str:
        """What it looks at."""

    @property
    def key(self) -> str:
        """The key that sets it."""

    @property
    def verdict(self) -> str:
        """``passed``, ``refused`` or ``not asked``."""

    @property
    def sentence(self) -> str:
        """Figure, limit and outcome, or why it was not asked."""


def by_verdict(gates: Sequence[GateRow]) -> dict[str, list[GateRow]]:
    """The gates that are refused, those not asked and those that have passed, each in their order."""
    return {key: [gate for gate in gates if gate.verdict == key] for key in ("refused", "not asked", "passed")}

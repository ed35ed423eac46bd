"""One of the user's tables as it was understood."""

from collections.abc import Sequence
from dataclasses import dataclass

from topkin.config.purchases import ROW_ORDER
from topkin.ingest.contract import InputSource
from topkin.ingest.inference.columns import InferredColumn, SuggestedRule
from topkin.ingest.inference.passed import PassedOver
from topkin.ingest.inference.sampling import TableSample
from topkin.ingest.rules import Rules


@dataclass(frozen=True)
class TableLook:
    """One of the user's tables: what was sampled, which column is which, what to normalise, reject, pass over."""

    sample: TableSample
    columns: Sequence[InferredColumn]
    normalise: Sequence[SuggestedRule]
    rules: Sequence[SuggestedRule] = ()
    passed: Sequence[PassedOver] = ()

    @property
    def section(self) -> str:
        """purchases, items or users."""
        return self.sample.section

    def column(self, key: str) -> str | None:
        """The column of a key; None where it has none."""
        return next((c.column for c in self.columns if c.key == key), None)

    def source(self) -> InputSource:
        """The table as the written configuration has it."""
        rules = ({r.key: r.expression for r in part} for part in (self.normalise, self.rules))
        columns = {c.key: c.column for c in self.columns if (c.key, c.column) != ("order", ROW_ORDER)}
        return InputSource(
            name=self.section, path=self.sample.path, columns=columns, rules=Rules.of(self.section, *rules)
        )

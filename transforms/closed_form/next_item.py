"""The next-item regression by the workers: the normal equations are sums over users, solved a block of items each."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import apache_beam as beam
import numpy as np
from apache_beam.pvalue import AsList, PBegin, PCollection
from apache_beam.utils.shared import Shared

from topkin.encoding.spectral_blocks import blocks_of, rows_of_block
from topkin.models.two_tower.next_item_ridge import NextItemSettings, add_part, solved
from topkin.transforms.closed_form.arrays import read_arrays, write_arrays
from topkin.transforms.closed_form.parts import PartInputs
from topkin.transforms.closed_form.rows import add_block, by_block, rows_of
from topkin.transforms.counters import counted


@dataclass(frozen=True, kw_only=True)
class NextItemInputs(PartInputs):
    """What the regression reads. dim: coordinates of the in-vectors that :func:`write_vectors` wrote."""

    dim: int
    settings: NextItemSettings


def write_vectors(inputs: NextItemInputs, in_vectors: np.ndarray, buyers: np.ndarray) -> None:
    """Write the in-vectors, (n_items, dim) float32, and buyers (n_items,) where all workers read them."""
    for number in range(blocks_of(inputs.n_items)):
        rows = rows_of_block(number, inputs.n_items)
        write_arrays(inputs.path("in", number), E=in_vectors[rows], buyers=buyers[rows])


@dataclass
class RegressParts(beam.PTransform):
    """The start of a pipeline to the out-vectors in scratch, see :func:`read_vectors`, after :func:`write_vectors`."""

    inputs: NextItemInputs
    shared: Shared = field(default_factory=Shared)

    @counted
    def _add(self, name: str) -> str:
        """Write what a part adds."""
        inputs = self.inputs
        items, part = inputs.part(name, self.shared).renumbered()
        G, C = np.zeros((inputs.dim, inputs.dim)), np.zeros((len(items), inputs.dim))
        if len(items):
            E = rows_of(items, inputs.n_items, lambda number: read_arrays(inputs.path("in", number))["E"])
            buyers = rows_of(items, inputs.n_items, lambda number: read_arrays(inputs.path("in", number))["buyers"])
            add_part(part, E, buyers, inputs.settings, G, C)
        took = np.flatnonzero(C.any(axis=1))
        write_arrays(inputs.path("took", name), G=G, **by_block(items[took], inputs.n_items, C=C[took]))
        return name

    @counted
    def _solve(self, number: int, names: Sequence[str]) -> int:
        """Write the out-vectors of a block."""
        inputs = self.inputs
        paths = [inputs.path("took", name) for name in names]
        rows = rows_of_block(number, inputs.n_items)
        C = np.zeros((rows.stop - rows.start, inputs.dim))
        add_block(paths, number, {"C": C})
        G = read_arrays(inputs.path("G"))["G"]
        write_arrays(inputs.path("out", number), O=solved(G, C, inputs.settings))
        return number

    @counted
    def _sum(self, _: None, names: Sequence[str]) -> int:
        inputs = self.inputs
        total = np.zeros((inputs.dim, inputs.dim))
        for name in sorted(names):
            total += read_arrays(inputs.path("took", name))["G"]
        write_arrays(inputs.path("G"), G=total)
        return len(names)

    def expand(self, pipeline: PBegin) -> PCollection[int]:
        names = self.inputs.purchases.names()
        parts = pipeline | "Parts" >> beam.Create(names, reshuffle=True)
        blocks = pipeline | "Blocks" >> beam.Create(range(blocks_of(self.inputs.n_items)), reshuffle=True)
        added = AsList(parts | "Add" >> beam.Map(self._add).with_output_types(str))
        summed = pipeline | "Once" >> beam.Create([None]) | "Sum" >> beam.Map(self._sum, added).with_output_types(int)
        solve = beam.Map(lambda number, names, _: self._solve(number, names), added, AsList(summed))
        return blocks | "Solve" >> solve.with_output_types(int)


def read_vectors(inputs: NextItemInputs) -> np.ndarray:
    """The out-vectors that :class:`RegressParts` wrote, (n_items, dim) float32."""
    vectors = np.empty((inputs.n_items, inputs.dim), np.float32)
    for number in range(blocks_of(inputs.n_items)):
        vectors[rows_of_block(number, inputs.n_items)] = read_arrays(inputs.path("out", number))["O"]
    return vectors

"""The decomposition of the purchases by the workers: each has the purchases of one part, or one block of item rows.

What a part adds to a pass lies in a file, its rows by block; whoever sums a block up reads its rows of every part, in
the order of parts, so that all engines give the same bytes. Elements are names and numbers alone.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import apache_beam as beam
import numpy as np
import scipy.sparse as sp
from apache_beam.pvalue import AsList, PBegin, PCollection
from apache_beam.utils.shared import Shared

from topkin.artifacts import storage
from topkin.encoding.spectral_blocks import Grams, Turn, blocks_of, leading, rows_of_block
from topkin.encoding.strips import joined, multiply, split, strips_of
from topkin.encoding.svd import SpectralSettings, Spectrum, by_users, checked, scale_of, start_rows
from topkin.interactions import Interactions
from topkin.linalg import gram
from topkin.linalg.blas import one_blas_thread
from topkin.linalg.mapped import mapped
from topkin.transforms.closed_form.arrays import read_arrays, write_arrays
from topkin.transforms.closed_form.parts import PartInputs
from topkin.transforms.closed_form.rows import add_block, by_block, rows_of, strips_of_items
from topkin.transforms.counters import counted


@dataclass(frozen=True, kw_only=True)
class SpectrumInputs(PartInputs):
    """What is decomposed.

    weigh: R of a part. settings: as of ``svd.decompose``, with fewer columns than items. threads: that a worker
    multiplies with.
    """

    weigh: Callable[[Interactions], sp.csr_matrix]
    settings: SpectralSettings
    threads: int = 1

    def __post_init__(self) -> None:
        if self.width >= self.n_items:
            raise ValueError(f"there must be more than {self.width} items, got {self.n_items}: decompose does it alone")

    @property
    def width(self) -> int:
        """Columns that are carried."""
        return self.settings.dim + self.settings.oversampling

    def grams(self, done: int) -> Grams:
        """The inner products of all rows after a pass."""
        blocks = (read_arrays(self.path("grams", done, number)) for number in range(blocks_of(self.n_items)))
        return Grams.sum_of(Grams(**arrays) for arrays in blocks)


@dataclass
class DecomposeParts(beam.PTransform):
    """The start of a pipeline to the singular values and vectors in scratch, see :func:`read_spectrum`."""

    inputs: SpectrumInputs
    shared: Shared = field(default_factory=Shared)

    @counted
    def _start(self, number: int) -> int:
        inputs = self.inputs
        rows = start_rows(inputs.settings.seed, rows_of_block(number, inputs.n_items), inputs.width)
        write_arrays(inputs.path("Q", 0, number), Q=strips_of(rows))
        return number

    @counted
    def _multiply(self, name: str, done: int, room: "_Room") -> str:
        """Write what a part adds to ``Y``, and in the first pass to the degrees."""
        inputs = self.inputs
        part = read_arrays(inputs.path("parts", name)) if done else self._read(name)
        items, n_items = part["items"], inputs.n_items
        added = by_block(items, n_items)
        if len(items):
            strips = strips_of_items(items, n_items, lambda number: self._rows(done, number), room.of)
            scale = None if not done else rows_of(items, n_items, self._scale)
            shape = len(part["indptr"]) - 1, len(items)
            matrix = sp.csr_matrix((part["weights"], part["columns"], part["indptr"]), shape)
            multiply(matrix, strips, scale, threads=inputs.threads)
            added = by_block(items, n_items, Y=strips, **({} if done else {"degrees": part["degrees"]}))
        write_arrays(inputs.path("added", done, name), **added)
        return name

    def _read(self, name: str) -> dict[str, np.ndarray]:
        """What a part multiplies by, its columns the items that it has, and what it adds to their degrees.

        Written for the next passes.
        """
        inputs = self.inputs
        matrix = checked(inputs.weigh(inputs.part(name, self.shared)))
        bought = np.zeros(inputs.n_items, bool)
        bought[matrix.indices] = True
        columns = (np.cumsum(bought, dtype=np.int32) - 1)[matrix.indices]
        part = {
            "items": np.flatnonzero(bought).astype(np.int32),
            "degrees": np.bincount(columns, matrix.data).astype(np.float32),
            "indptr": matrix.indptr,
            "columns": columns,
            "weights": by_users(matrix, inputs.settings).data,
        }
        write_arrays(inputs.path("parts", name), **part)
        return part

    def _rows(self, done: int, number: int) -> np.ndarray:
        """A block of Q, its strips one behind the other."""
        return read_arrays(self.inputs.path("Q", done, number))["Q"]

    def _scale(self, number: int) -> np.ndarray:
        return scale_of(read_arrays(self.inputs.path("degrees", number))["degrees"], self.inputs.settings)

    @counted
    def _sum(self, number: int, done: int, names: Sequence[str]) -> int:
        """Add a block of ``Y`` up, and write it with its inner products."""
        inputs, rows = self.inputs, rows_of_block(number, self.inputs.n_items)
        size, last = rows.stop - rows.start, done + 1 == inputs.settings.passes
        Q = joined(split(self._rows(done, number), size)) if last or Turn.shifts(done + 1) else None
        strips = split(np.zeros(size * self._width(done), np.float32), size)
        paths = [inputs.path("added", done, name) for name in names]
        if done:
            add_block(paths, number, {"Y": strips})
        else:
            summed = np.zeros(size)
            add_block(paths, number, {"Y": strips, "degrees": summed})
            write_arrays(inputs.path("degrees", number), degrees=summed.astype(np.float32))
        scale = self._scale(number)
        if Q is not None and not done:
            Q *= (1 / scale)[:, None]
        Y = joined(strips)
        Y *= scale[:, None]
        write_arrays(inputs.path("Y", done, number), Y=Y)
        write_arrays(inputs.path("grams", done, number), **vars(Grams.of(Q, Y, rows.start if last else None)))
        return number

    def _width(self, done: int) -> int:
        """Columns of Q in a pass: in the first those that are carried, then as many as the purchases had directions."""
        return int(read_arrays(self.inputs.path("turn", done - 1))["T"].shape[1]) if done else self.inputs.width

    @counted
    def _choose(self, _: None, done: int, summed: Sequence[int]) -> int:
        """Write what turns ``Y`` into the next ``Q``, or into the vectors; what nobody reads any more goes."""
        inputs = self.inputs
        with one_blas_thread():  # or the bytes would depend on the machine's processors
            self._write_turn(inputs.grams(done), done)
        for gone in (("added", done), *((name, done - 1) for name in ("Q", "Y") if done)):
            storage.remove_folder(inputs.path(*gone).removesuffix(".arrays"))
        return len(summed)

    def _write_turn(self, grams: Grams, done: int) -> None:
        inputs = self.inputs
        if not grams.YY.any():
            raise ValueError("a decomposition needs at least one purchase of a weight above 0, got none")
        if done + 1 < inputs.settings.passes:
            turn = Turn.of(grams, done + 1)
            write_arrays(inputs.path("turn", done), T=turn.T, shift=np.array(turn.shift))
        else:
            s, M = leading(grams, inputs.settings)
            write_arrays(inputs.path("turn", done), s=s, M=M)

    @counted
    def _turn(self, number: int, done: int, _: Sequence[int]) -> int:
        """Write a block of the next ``Q``, or of the vectors after the last pass."""
        inputs, rows = self.inputs, rows_of_block(number, self.inputs.n_items)
        Y, how = read_arrays(inputs.path("Y", done, number))["Y"], read_arrays(inputs.path("turn", done))
        if done + 1 < inputs.settings.passes:
            turn = Turn(how["T"], np.float32(how["shift"]))
            Q = joined(split(self._rows(done, number), rows.stop - rows.start)) if turn.shift else None
            write_arrays(inputs.path("Q", done + 1, number), Q=strips_of(turn.next(Q, Y)))
        else:
            write_arrays(inputs.path("V", number), V=gram.product(Y, how["M"]))
        return number

    def expand(self, pipeline: PBegin) -> PCollection[int]:
        names = self.inputs.purchases.names()
        parts = pipeline | "Parts" >> beam.Create(names, reshuffle=True)
        blocks = pipeline | "Blocks" >> beam.Create(range(blocks_of(self.inputs.n_items)), reshuffle=True)
        once = pipeline | "Once" >> beam.Create([None])
        turned = blocks | "Start" >> beam.Map(self._start).with_output_types(int)
        for done in range(self.inputs.settings.passes):
            multiply = beam.ParDo(_Multiply(self, done), AsList(turned)).with_output_types(str)
            added = AsList(parts | f"Multiply{done}" >> multiply)
            summed = AsList(blocks | f"Sum{done}" >> beam.Map(self._sum, done, added).with_output_types(int))
            chosen = AsList(once | f"Choose{done}" >> beam.Map(self._choose, done, summed).with_output_types(int))
            turned = blocks | f"Turn{done}" >> beam.Map(self._turn, done, chosen).with_output_types(int)
        return turned


class _Room:
    """Memory of parts that one worker multiplies one after the other: fresh pages would take as long as a product."""

    def __init__(self) -> None:
        self.held = np.empty(0, np.float32)

    def of(self, size: int) -> np.ndarray:
        """An array of so many values, whatever they are."""
        if len(self.held) < size:
            self.held = np.empty(0, np.float32)  # the smaller one goes first
            self.held = np.empty(size, np.float32)
        return self.held[:size]


class _Multiply(beam.DoFn):  # type: ignore[misc]
    """A pass over the parts of a bundle, in memory that lasts as long as that."""

    def __init__(self, transform: DecomposeParts, done: int) -> None:
        self.transform, self.done = transform, done

    def start_bundle(self) -> None:
        self.room = _Room()

    def process(self, name: str, *_: Sequence[object]) -> Iterator[str]:
        yield self.transform._multiply(name, self.done, self.room)

    def finish_bundle(self) -> None:
        del self.room


def read_spectrum(inputs: SpectrumInputs) -> Spectrum:
    """What :class:`DecomposeParts` wrote; the vectors are on this machine's disk, and in memory as they are read."""
    last: dict[str, Any] = read_arrays(inputs.path("turn", inputs.settings.passes - 1))
    V = mapped((inputs.n_items, len(last["s"])))
    degrees = np.empty(inputs.n_items, np.float32)
    for number in range(blocks_of(inputs.n_items)):
        rows = rows_of_block(number, inputs.n_items)
        V[rows] = read_arrays(inputs.path("V", number))["V"]
        degrees[rows] = read_arrays(inputs.path("degrees", number))["degrees"]
    return Spectrum(last["s"], V, degrees, inputs.settings)

"""A trained Keras model over a table of items, without a run: what ``topkin embed --encoder`` does.

::

    <output>/encoder/        the model and its signature, with the columns that fed it
    <output>/items/          item_id and vector, a part for each split of the input
    <output>/rejects/        rows that could not be embedded, where there are any
    <output>/vectors.json    the encoder's hash, the dimension, and the counts
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from topkin.artifacts import ids, manifest, storage
from topkin.artifacts.embeddings import ITEMS, SUMMARY
from topkin.config.sections import EncoderRunSettings
from topkin.encoding.inputs import InputChoice
from topkin.encoding.signature import SIGNATURE
from topkin.errors import ConfigError, InputError, TopkinError
from topkin.ingest.files import Footer, find, read_footers
from topkin.ingest.folders.file import File
from topkin.ingest.rules import Rules
from topkin.ingest.sql import Expression, nearest
from topkin.ingest.values.type_cures import type_cure
from topkin.pipelines.engine.job import SCRATCH, beam_options, input_files, run_pipeline

if TYPE_CHECKING:
    from topkin.models.encoders.keras_files import SavedModel

STAGE_NAME = "encode"


@dataclass(frozen=True, kw_only=True)
class TableVectors:
    """What was made.

    Args:
        folder: The output.
        encoder: The hash of the encoder.
        dim: Coordinates of a vector.
        inputs: Each input of the model with its column, in words.
        read: Rows of the table.
        embedded: Rows with a vector.
        padded: Rows that filled the last batches up.
        rejects: Rejected rows by reason, the most frequent first.
        device: GPU or CPU.
        seconds: Of the job, the start of its workers included.
    """

    folder: str
    encoder: str
    dim: int
    inputs: Sequence[str]
    read: int
    embedded: int
    padded: int
    rejects: Mapping[str, int]
    device: str
    seconds: float


@dataclass(frozen=True)
class _Table:
    """The files of the items, what matters of their rules, the columns stored, and all columns after the rules."""

    files: tuple[File, ...]
    rules: Rules
    stored: tuple[str, ...]
    bound: pa.Schema

    def type_of(self, column: str) -> pa.DataType | None:
        """The type of a column, or of an expression over them; None for a name that is no column."""
        if column in self.bound.names:
            return self.bound.field(column).type
        if column.isidentifier():
            return None
        expression = Expression("encoder.inputs", column)
        expression.names()
        return expression.evaluate(self.bound.empty_table()).type


def embed_table(
    settings: EncoderRunSettings,
    output: str,
    *,
    force: bool = False,
    beam: Sequence[str] = (),
    tell: Callable[[str], None] = lambda line: None,
) -> TableVectors:
    """Run a trained model over the items.

    Args:
        settings: The model, its inputs, and the items.
        output: The folder that is made.
        force: Replace what an earlier call made there.
        beam: Flags for Beam.
        tell: Called with what is to be said before the work: each input with its column.

    Raises:
        TopkinError: The model, the table or the folder cannot be used; or no row could be embedded.
    """
    from topkin.models.encoders.keras_files import read_model
    from topkin.transforms.encode import EncodeInputs, EncodeTable

    beam_options(beam)
    saved = read_model(settings.encoder.path)
    choices = {name: i.choice() for name, i in settings.encoder.inputs.items()}
    table = _look(settings, _mentioned(saved, choices))
    signature = saved.bound(choices, table.type_of, table.bound.names)
    id_type = _id_type(settings, table)
    said = [i.described() for i in signature.inputs]
    for line in said:
        tell(f"{'input':<10} {line}")
    _make_room(output, settings.items.path, force=force)
    encoder = storage.join(output, "encoder")
    saved.write(encoder, signature)
    inputs = EncodeInputs(
        encoder=encoder,
        files=table.files,
        id_column=settings.items.item_id,
        id_type=id_type,
        columns=_used(table.stored, [settings.items.item_id, *(i.column for i in signature.inputs)], table.rules),
        rules=table.rules,
        batch_size=settings.embed.batch_size,
        jit_compile=settings.encoder.jit_compile,
        precision=settings.encoder.precision,
    )
    tally, began = storage.join(output, SCRATCH, "counts.json"), time.perf_counter()
    run_pipeline(EncodeTable(inputs, output, tally), beam)
    seconds = time.perf_counter() - began
    counts = storage.read_json(tally)
    storage.remove_folder(storage.join(output, SCRATCH))
    made = TableVectors(
        folder=output,
        encoder=signature.hash,
        dim=signature.dim,
        inputs=said,
        **counts["items"],
        rejects=dict(sorted(counts.get("rejects", {}).items(), key=lambda r: (-r[1], r[0]))),
        device=" and ".join(sorted(counts["device"])),
        seconds=seconds,
    )
    summary = {"encoder": made.encoder, "dim": made.dim, ITEMS: made.embedded, "rejects": made.rejects}
    storage.write_json(summary, storage.join(output, SUMMARY))
    manifest.seal(output, stage=STAGE_NAME, key=made.encoder, summary=summary)
    if made.read and not made.embedded:
        most, rows = next(iter(made.rejects.items()))
        raise InputError(
            f"{settings.items.path} must hold a row that the encoder takes, all {made.read:,} were rejected, {rows:,} "
            f"for: {most}; {storage.join(output, 'rejects')} has them: mend the column, or name another input"
        )
    return made


def _mentioned(saved: "SavedModel", choices: Mapping[str, InputChoice]) -> list[str]:
    """The columns and expressions that may feed the model."""
    own = {} if saved.signature is None else {i.name: i.column for i in saved.signature.inputs}
    names = [i.name for i in saved.inputs]
    chosen = [c.column for c in choices.values() if c.column is not None]
    return [*chosen, *choices, *own.values(), *names]


def _look(settings: EncoderRunSettings, mentioned: Sequence[str]) -> _Table:
    """The files, those expressions of the items that matter here, and the columns after them."""
    items = settings.items
    files = input_files(items.path)
    footers = read_footers("items", find("items.path", items.path, files), files, lambda parquet, file: None)
    broken = [f for f in footers if isinstance(f, TopkinError)]
    if broken:
        raise broken[0]
    read = [f for f in footers if isinstance(f, Footer) and f.file.rows]
    if not read:
        raise InputError(f"items.path: {items.path} holds no rows")
    schema = read[0].schema
    rules = _relevant(Rules.of("items", items.normalise, items.rules), [items.item_id, *mentioned])
    columns = _used(schema.names, [items.item_id, *mentioned], rules)
    for footer in read[1:]:
        for column in columns:
            came = footer.schema.field(column).type if column in footer.schema.names else None
            if came is None or ids.storage(came) != ids.storage(schema.field(column).type):
                raise InputError(
                    f"{footer.file.path}: column {column!r} must be {schema.field(column).type} as in "
                    f"{read[0].file.path}, got {came or 'none'}: write all files with one type"
                )
    bound = rules.bound(pa.schema([schema.field(c) for c in columns]))
    unused = (f for f in schema if f.name not in bound.names)
    return _Table(tuple(f.file for f in read), rules, tuple(schema.names), pa.schema([*bound, *unused]))


def _used(stored: Sequence[str], mentioned: Sequence[str], rules: Rules) -> list[str]:
    """The stored columns that are mentioned, by themselves or in an expression."""
    names = {n for c in mentioned if c not in stored for n in _names(c)} | {c.lower() for c in rules.columns(stored)}
    return [c for c in stored if c in mentioned or c.lower() in names]


def _names(text: str) -> set[str]:
    """The names in an expression; none where it is not one: it is told as a column that is not there."""
    try:
        return Expression("encoder.inputs", text).names()
    except ConfigError:
        return set()


def _relevant(rules: Rules, mentioned: Sequence[str]) -> Rules:
    """The rules, and those replacements whose columns they or the inputs read: the others are for other jobs."""
    wanted = {c.lower() for c in mentioned} | {n for c in mentioned for n in _names(c)}
    wanted |= {n for _, expression in rules.rules for n in expression.names()}
    kept: dict[str, Expression] = {}
    for column, expression in reversed(rules.normalise):
        if column.lower() in wanted:
            kept[column] = expression
            wanted |= expression.names()
    return Rules(tuple(reversed(kept.items())), rules.rules)


def _id_type(settings: EncoderRunSettings, table: _Table) -> pa.DataType:
    column = settings.items.item_id
    if column not in table.bound.names:
        raise InputError(
            f"{settings.items.path} has no column {column!r} (items.item_id){nearest(column, table.bound.names)}; its "
            f"columns are {', '.join(table.bound.names)}: name one, as in --id COLUMN"
        )
    t = table.bound.field(column).type
    kind = ids.canonical_type(t)
    if kind is None:
        cure = type_cure("items", "item_id", column, t)
        raise InputError(f"column {column!r} (items.item_id) must be {ids.ACCEPTED}, got {t}: {cure}")
    return kind


def _make_room(output: str, items: str, *, force: bool) -> None:
    """Empty the output where it holds what an earlier call left.

    Raises ConfigError where it holds anything else, or lies among the items, which would then be read with it.
    """
    if f"{output.rstrip('/')}/".startswith(f"{items.rstrip('/')}/"):
        raise ConfigError(f"{output} must lie outside of the items, {items}: --output names another folder")
    held = storage.files(output)
    if not held:
        return
    ours = f"encoder/{SIGNATURE}" in held
    sealed = manifest.read(output) if ours else None
    if not ours or (sealed is not None and sealed.get("stage") != STAGE_NAME):
        raise ConfigError(
            f"{output} must be empty or new, it has {len(held):,} files of others: name another by --output"
        )
    if sealed is not None and not force:
        raise ConfigError(
            f"{output} holds {sealed['summary'][ITEMS]:,} vectors already: --force makes them again, --output names "
            "another folder"
        )
    storage.remove_folder(output)

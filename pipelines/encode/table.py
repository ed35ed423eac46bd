"""A trained Keras model over a table of items or of users, without a run: what ``topkin embed --encoder`` does.

::

    <output>/encoder/        the models and their signature, with the columns that fed them
    <output>/items/          item_id and vector, a part for each split of the input
    <output>/rejects/        items that could not be embedded, where there are any
    <output>/users/          user_id and vector, likewise
    <output>/user_rejects/   users that could not be embedded
    <output>/vectors.json    the encoder's hash, the dimension, and the counts

A call makes one side; the other, of the same encoder, may be there.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa

from topkin.artifacts import ids, storage
from topkin.artifacts.embeddings import ITEMS, REJECTS, USERS
from topkin.config.encoder_run import EncoderRunSettings
from topkin.config.sections import UsersSettings
from topkin.encoding.inputs import InputChoice
from topkin.encoding.signature import EncoderSignature, read_signature
from topkin.errors import ConfigError, InputError, TopkinError
from topkin.ingest.files import Footer, find, read_footers
from topkin.ingest.folders.file import File
from topkin.ingest.rules import Rules
from topkin.ingest.sql import Expression, nearest, quoted_if_needed, type_in
from topkin.ingest.values.type_cures import normalise_key, type_cure
from topkin.pipelines.engine.job import SCRATCH, beam_options, input_files, run_pipeline
from topkin.pipelines.engine.vectors_folder import apart, make_room, seal

if TYPE_CHECKING:
    from topkin.models.encoders.keras_files import SavedModel


@dataclass(frozen=True, kw_only=True)
class TableVectors:
    """What was made.

    Args:
        side: Whose vectors: ``items`` or ``users``.
        folder: The output.
        encoder: The hash of the encoder.
        dim: Coordinates of a vector.
        inputs: Each input of the model with its column, in words.
        read: Rows of the table.
        embedded: Rows with a vector.
        padded: What filled batches and histories up: values where the model takes histories of any length, else rows.
        worked: All values, or rows, that the model worked through.
        rejects: Rejected rows by reason, the most frequent first.
        device: GPU or CPU.
        seconds: Of the job, the start of its workers included.
    """

    side: str
    folder: str
    encoder: str
    dim: int
    inputs: Sequence[str]
    read: int
    embedded: int
    padded: int
    worked: int
    rejects: Mapping[str, int]
    device: str
    seconds: float


@dataclass(frozen=True)
class _Source:
    """The table of a side, as the settings say it.

    ``key`` is that of its column of ids, ``flag`` what names that on the command line; ``section`` holds ``choices``.
    ``queries_of``: for ``topkin match``, the section whose ``normalise`` its rows get.
    """

    side: str
    path: str
    id_column: str
    key: str
    flag: str
    normalise: Mapping[str, str]
    rules: Mapping[str, str]
    section: str
    choices: Mapping[str, InputChoice]
    queries_of: str = ""

    @property
    def named(self) -> str:
        """The section whose expressions are asked of the rows."""
        return self.queries_of or self.side

    @property
    def place(self) -> str:
        """What names the path in messages."""
        return "QUERIES" if self.queries_of else f"{self.side}.path"

    @classmethod
    def of(cls, settings: EncoderRunSettings, side: str, queries_of: str = "") -> "_Source":
        """Raises ConfigError where the settings have no such table."""
        encoder, table = settings.encoder, settings.users if side == USERS else settings.items
        if table is None:
            raise ConfigError(f"a table of {side} must be named: set {side}.path, or give --{side} PATH")
        of_users = isinstance(table, UsersSettings)
        inputs = encoder.user_inputs if of_users else encoder.inputs
        return cls(
            side=side,
            path=table.path,
            id_column=table.user_id if isinstance(table, UsersSettings) else table.item_id,
            key="users.user_id" if of_users else "items.item_id",
            flag="--user-id" if of_users else "--id",
            normalise=table.normalise,
            rules=table.rules,
            section="encoder.user_inputs" if of_users else "encoder.inputs",
            choices={name: i.choice() for name, i in inputs.items()},
            queries_of=queries_of,
        )


@dataclass(frozen=True)
class _Table:
    """The files of a side, what matters of their rules, the columns stored, and all columns after the rules."""

    files: tuple[File, ...]
    rules: Rules
    stored: tuple[str, ...]
    bound: pa.Schema
    section: str

    def type_of(self, column: str) -> pa.DataType | None:
        """The type of a column, or of an expression over them; None for a name that is no column."""
        return type_in(self.bound, column, self.section)


class Bound(NamedTuple):
    """A table of a side and the model that takes it, each input with its column."""

    source: _Source
    table: _Table
    saved: "SavedModel"
    signature: EncoderSignature
    id_type: pa.DataType


def bound(settings: EncoderRunSettings, side: str, queries_of: str = "") -> Bound:
    """Read the model and the footers of the table. Raises TopkinError where one or the other cannot be used."""
    from topkin.models.encoders.keras_files import read_model

    source = _Source.of(settings, side, queries_of)
    saved = read_model(settings.encoder.path, side)
    table = _look(source, _mentioned(saved, source.choices))
    if queries_of and saved.signature is not None:
        _ask_queries(source, table, saved.signature)
    signature = saved.bound(source.choices, table.type_of, table.bound.names)
    return Bound(source, table, saved, signature, _id_type(source, table))


def _ask_queries(source: _Source, table: _Table, signature: EncoderSignature) -> None:
    """Hold queries to what fed the encoder: no flag of ``topkin match`` names other columns."""
    faults = []
    for wanted in signature.inputs:
        if table.type_of(wanted.column) is None:
            column = quoted_if_needed(wanted.column)
            key = normalise_key(source.named, wanted.column)
            faults.append(
                f"{source.path} has no column {column}{nearest(wanted.column, table.bound.names)}, which feeds the "
                f"encoder's input {wanted.name!r}; its columns are {', '.join(table.bound.names)}: rename one, or say "
                f"which it is, as in --set {key}={quoted_if_needed(table.bound.names[-1])}"
            )
    if faults:
        raise InputError("\n".join(faults))


def embed_table(
    settings: EncoderRunSettings,
    output: str,
    *,
    side: str = ITEMS,
    queries_of: str = "",
    force: bool = False,
    beam: Sequence[str] = (),
    tell: Callable[[str], None] = lambda line: None,
) -> TableVectors:
    """Run a trained model over the items, or over the users.

    Args:
        settings: The model, its inputs, and the table.
        output: The folder that is made, or to which this side is added.
        side: ``items`` or ``users``.
        queries_of: For the queries of ``topkin match``, the section whose ``normalise`` they get, for messages.
        force: Replace what an earlier call made there of this side; files of others are never touched.
        beam: Flags for Beam.
        tell: Called with what is to be said before the work: each input with its column.

    Raises:
        TopkinError: The model, the table or the folder cannot be used; or no row could be embedded.
    """
    from topkin.transforms.encode import EncodeInputs, EncodeTable

    beam_options(beam)
    source, table, saved, signature, id_type = bound(settings, side, queries_of)
    descriptions = [i.described() for i in signature.side(side)]
    for line in descriptions:
        tell(f"{'input':<10} {line}")
    apart(output, side, source.path, [f.path for f in table.files], settings.encoder.path)
    kept = make_room(output, side, signature.hash, force=force)
    encoder = storage.join(output, "encoder")
    if kept:
        signature = _with_other_side(signature, read_signature(encoder), side)
    saved.write(encoder, signature)
    if kept:  # the manifest of the side that stays lists what was written anew
        seal(output, {"encoder": signature.hash, "dim": signature.dim, **kept})
    inputs = EncodeInputs(
        encoder=encoder,
        side=side,
        files=table.files,
        id_column=source.id_column,
        id_type=id_type,
        columns=_used(table.stored, [source.id_column, *(i.column for i in signature.side(side))], table.rules),
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
    vectors = TableVectors(
        side=side,
        folder=output,
        encoder=signature.hash,
        dim=signature.dim,
        inputs=descriptions,
        **counts[side],
        worked=counts["worked"][side],
        rejects=dict(sorted(counts.get("rejects", {}).items(), key=lambda r: (-r[1], r[0]))),
        device=" and ".join(sorted(counts["device"])),
        seconds=seconds,
    )
    summary = {"encoder": vectors.encoder, "dim": vectors.dim, **kept}
    if vectors.read and not vectors.embedded:
        if kept:
            seal(output, summary)
        most, rows = next(iter(vectors.rejects.items()))
        raise InputError(
            f"{source.path} must hold a row that the encoder takes, all {vectors.read:,} were rejected, {rows:,} "
            f"for: {most}; {storage.join(output, REJECTS[side])} has them: mend the column, or name another input"
        )
    seal(output, {**summary, side: vectors.embedded, REJECTS[side]: vectors.rejects})
    return vectors


def _with_other_side(signature: EncoderSignature, known: EncoderSignature, side: str) -> EncoderSignature:
    """The signature with the columns that fed the other side, whose vectors are kept."""
    if side == USERS:
        return replace(signature, inputs=known.inputs)
    return replace(signature, user_inputs=known.user_inputs)


def _mentioned(saved: "SavedModel", choices: Mapping[str, InputChoice]) -> list[str]:
    """The columns and expressions that may feed the model."""
    own = {} if saved.signature is None else {i.name: i.column for i in saved.signature.side(saved.side)}
    names = [i.name for i in saved.inputs]
    chosen = [c.column for c in choices.values() if c.column is not None]
    return [*chosen, *choices, *own.values(), *names]


def _look(source: _Source, mentioned: Sequence[str]) -> _Table:
    """The files of a table, those expressions of its rules that matter here, and the columns after them."""
    side, files = source.named, input_files(source.path)
    footers = read_footers(side, find(source.place, source.path, files), files, lambda parquet, file: None)
    broken = [f for f in footers if isinstance(f, TopkinError)]
    if broken:
        raise broken[0]
    read = [f for f in footers if isinstance(f, Footer) and f.file.rows]
    if not read:
        raise InputError(f"{source.place}: {source.path} holds no rows")
    schema = read[0].schema
    rules = _relevant(Rules.of(side, source.normalise, source.rules), [source.id_column, *mentioned])
    columns = _used(schema.names, [source.id_column, *mentioned], rules)
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
    columns_after = pa.schema([*bound, *unused])
    return _Table(tuple(f.file for f in read), rules, tuple(schema.names), columns_after, source.section)


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


def _id_type(source: _Source, table: _Table) -> pa.DataType:
    column, key = source.id_column, "--id" if source.queries_of else source.key
    if column not in table.bound.names:
        raise InputError(
            f"{source.path} has no column {column!r} ({key}){nearest(column, table.bound.names)}; its "
            f"columns are {', '.join(table.bound.names)}: name one, as in {source.flag} COLUMN"
        )
    t = table.bound.field(column).type
    kind = ids.canonical_type(t)
    if kind is None:
        cure = type_cure(source.named, source.key.partition(".")[2], column, t)
        raise InputError(f"column {column!r} ({key}) must be {ids.ACCEPTED}, got {t}: {cure}")
    return kind


def pace(rows: int, seconds: float, padded: int, worked: int, device: str) -> str:
    """How fast rows were read and embedded, by what, and how much of its work was padding, in words."""
    by = "GPU" if device == "GPU" else f"{device} (no GPU was found)"
    return f"{rows / max(seconds, 1e-9):,.0f} rows a second on {by}, {padded / max(worked, 1):.1%} padding"

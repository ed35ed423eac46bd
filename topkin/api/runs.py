"""Runs in a program: doing a nightly run, and reading a published one without Beam and without TensorFlow."""

import os
from collections.abc import Sequence
from datetime import date, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from topkin.artifacts import lookup, manifest, runs, storage
from topkin.config.as_of import parse_as_of

if TYPE_CHECKING:
    from topkin.config.sections import Settings


class PublishedRun:
    """A finished run, its tables read as they are asked for; made by :func:`topkin.open_run`.

    Attributes:
        run: Where its stages' folders are.
        run_id: Its name below ``runs/``.
        as_of: Its as-of date, naive UTC.
    """

    def __init__(self, run: runs.Run) -> None:
        self.run, self.run_id, self.as_of = run, run.run_id, run.as_of

    def __repr__(self) -> str:
        return f"<run {self.run_id} as of {self.as_of.isoformat()}: {', '.join(self.tables)}>"

    @cached_property
    def settings(self) -> "Settings":
        """The settings that the run was made with."""
        from topkin.config.sections import recorded_settings

        return recorded_settings(self.run)

    @property
    def tables(self) -> tuple[str, ...]:
        """The names of the tables that the run has."""
        return lookup.tables(self.run)

    @property
    def gates(self) -> list[dict[str, Any]] | None:
        """What each gate found: the ``gates`` of ``gates.json``; None where the run has no report."""
        if "report" not in self.run.folders:
            return None
        gates: list[dict[str, Any]] = storage.read_json(storage.join(self.folder("report"), "gates.json"))["gates"]
        return gates

    @property
    def metrics(self) -> dict[str, Any] | None:
        """The content of ``metrics.json``; None where the run was not evaluated."""
        if "evaluate" not in self.run.folders:
            return None
        value: dict[str, Any] = storage.read_json(storage.join(self.folder("evaluate"), "metrics.json"))
        return value

    def folder(self, stage: str) -> str:
        """The folder of a stage: ``train`` for the encoder, ``index`` for the NMSLIB index. Raises ArtifactError."""
        return self.run.folder(stage)

    def table(self, name: str, columns: Sequence[str] | None = None) -> pa.Table:
        """A whole table, or some of its columns; the checksum of every page is verified.

        Args:
            name: One of :attr:`tables`; their columns are listed under *Artifacts* in the documentation.
            columns: The columns to read, all by default.

        Returns:
            The rows of all files, one file after the other.

        Raises:
            ValueError: There is no table of this name.
            ArtifactError: A file is missing or damaged, or the run has not got so far.
        """
        path = lookup.table_path(self.run, name)
        return storage.read_parquet(path, columns) if path.endswith(".parquet") else storage.read_parts(path, columns)

    def rows(self, name: str, ids: pa.Array, columns: Sequence[str] | None = None) -> pa.Table:
        """The rows of some users, or items, of a table; of a table by user only their files are read.

        Args:
            name: A table by user, ``similar_items`` or ``item_embeddings``.
            ids: The ids, of the type that the table has.
            columns: The columns to read, all by default.

        Raises:
            ValueError: There is no table of this name, or it is another.
            ArtifactError: As of :meth:`table`.
        """
        stage, key = lookup.stage_of(name), "item_id" if name in ("similar_items", "item_embeddings") else "user_id"
        place = lookup.table_path(self.run, name).removeprefix(self.folder(stage)).lstrip("/")
        if name == "rejects" or place.endswith(".parquet"):
            raise ValueError(f"rows are of a table in parts by user or item, got {name!r}: table({name!r}) has all")
        return lookup.read_rows(self.run, stage, place, key, ids, columns)

    def verify(self) -> None:
        """Check the size and SHA-256 of every file. Raises ArtifactError that names the first that is wrong."""
        for folder in self.run.folders.values():
            manifest.verify(folder)


def open_run(path: str | os.PathLike[str]) -> PublishedRun:
    """Open the published run of an output folder, or one run by its own folder.

    Neither Beam nor TensorFlow is imported.

    Args:
        path: The folder ``run.output`` with its ``current.json``, or a folder ``runs/<run id>`` below one; local or a
            URI.

    Returns:
        The run, whose tables are read when asked for.

    Raises:
        ArtifactError: Nothing is published there, or its pointer is damaged.

    Examples:
        >>> import pyarrow as pa, tempfile, topkin
        >>> purchases = pa.table({
        ...     "user_id": ["ann", "ann", "bob", "bob"],
        ...     "item_id": ["tea", "cup", "tea", "pot"],
        ...     "timestamp": ["2024-05-01", "2024-05-02", "2024-05-01", "2024-05-03"],
        ... })
        >>> folder = tempfile.mkdtemp()
        >>> topkin.Recommender(train={"epochs": 0}).fit(purchases).save(folder)
        >>> run = topkin.open_run(folder)
        >>> run.as_of.date().isoformat()
        '2024-05-03'
        >>> run.table("catalogue", ["item_id", "users"]).to_pydict()
        {'item_id': ['cup', 'pot', 'tea'], 'users': [1, 1, 2]}
    """
    return PublishedRun(runs.run_at(os.fspath(path)))


def run(
    settings: "Settings | str | os.PathLike[str]",
    as_of: datetime | date | str | None = None,
    *,
    force: bool = False,
    publish: bool = True,
    anyway: str | None = None,
    older: bool = False,
    beam: Sequence[str] = (),
) -> PublishedRun:
    """Do the whole nightly job: every stage that is not done yet, then the pointer to the new tables.

    Args:
        settings: The settings, or the path of the TOML file that holds them.
        as_of: The date as of which recommendations are made: purchases before it are learned from, later ones are held
            out. A time without a zone is UTC. Today by default.
        force: Whether to do finished stages again, in a new run.
        publish: Whether to move the pointer ``current.json`` to the run, and delete runs that are not needed any more.
        anyway: Why it is published though gates refuse it; the reason is kept in the pointer.
        older: Whether the run may take the place of one of a later date; without it such a run is made, not published.
        beam: Flags for Beam, such as ``["--runner=FlinkRunner"]``; in this process by default.

    Returns:
        The run, opened.

    Raises:
        ConfigError: A setting is wrong.
        InputError: The data cannot be used.
        QualityGateError: The tables are made, and gates of ``[publish]`` refuse them.
        BusyError: Another process works in the output folder.

    Examples:
        >>> import pyarrow as pa, pyarrow.parquet as pq, pathlib, tempfile, topkin
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> pq.write_table(pa.table({
        ...     "user_id": [1, 1, 2, 2, 3, 3],
        ...     "item_id": [10, 11, 10, 12, 11, 12],
        ...     "timestamp": ["2024-05-01", "2024-05-02", "2024-05-01", "2024-05-03", "2024-05-02", "2024-05-04"],
        ... }), folder / "purchases.parquet")
        >>> _ = (folder / "topkin.toml").write_text('''
        ... [purchases]
        ... path = "purchases.parquet"
        ... [run]
        ... parts = 1
        ... [train]
        ... epochs = 0
        ... ''')
        >>> published = topkin.run(folder / "topkin.toml", as_of="2024-05-05")
        >>> published.table("recommendations").select(["user_id", "rank", "item_id"]).to_pylist()[0]
        {'user_id': 1, 'rank': 1, 'item_id': 12}
    """
    from topkin.config.load import load_settings
    from topkin.config.sections import Settings
    from topkin.pipelines.run import run_all

    settings = settings if isinstance(settings, Settings) else load_settings(settings)
    date = parse_as_of(as_of, "as_of")
    return PublishedRun(
        run_all(settings, as_of=date, force=force, publish=publish, anyway=anyway, older=older, beam=beam)
    )

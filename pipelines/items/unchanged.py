"""The vectors of the version published before, for items that have not changed: a delta night embeds the others."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from topkin.artifacts import schemas, storage
from topkin.artifacts.embeddings import ITEMS, REJECTS, SUMMARY, EncodedItems, read_encoded, vector_column
from topkin.config.items_run import ItemsRunSettings
from topkin.encoding.signature import EncoderSignature, read_signature
from topkin.errors import ArtifactError
from topkin.ingest.items import row_hashes
from topkin.pipelines.engine.job import Job
from topkin.pipelines.items.encoder import FOLDER

READS = ("prepare", "train", "embed")
"""The stages whose folders in the published run are asked."""

GROUP_BYTES = 32 << 20
"""Bytes of a row group of the rows that are embedded, about."""


@dataclass(frozen=True)
class Unchanged:
    """What of the items is embedded already.

    earlier: the vectors of the version before. ids, kept: of each part, its items and which of them, (n,) bool, have
    the vector of that version. changed: the folder with the rows of the others.
    """

    earlier: EncodedItems
    ids: Sequence[pa.Array]
    kept: Sequence[np.ndarray]
    changed: str

    @property
    def rows(self) -> int:
        """How many items have their vector of before."""
        return int(sum(kept.sum() for kept in self.kept))

    def write(self, encoded: EncodedItems | None, out: str, signature: EncoderSignature) -> int:
        """Write all vectors into ``out``/items, a part for each of the prepared ones; returns how many there are."""
        schema = schemas.with_encoder(schemas.encoded_items(self.earlier.ids.type, signature.dim), signature.hash)
        total = 0
        for part, (ids, kept) in enumerate(zip(self.ids, self.kept, strict=True)):
            rows = np.zeros((len(ids), signature.dim), np.float32)
            good = kept.copy()
            rows[kept] = self.earlier.vectors[_places(ids.filter(pa.array(kept)), self.earlier.ids)]
            if encoded is not None:
                at = _places(ids, encoded.ids)
                new = ~kept & (at >= 0)
                rows[new], good = encoded.vectors[at[new]], good | new
            table = pa.Table.from_arrays([ids.filter(pa.array(good)), vector_column(rows[good])], schema=schema)
            storage.write_parquet(table, storage.join(out, ITEMS, storage.part_name(part, len(self.ids))))
            total += len(table)
        return total

    def write_rejects(self, new_folder: str, prepared: str, out: str) -> None:
        """Write the rejects below ``new_folder`` into ``out``, their files and rows those of the prepared items."""
        names = [storage.part_name(part, len(self.ids)) for part in range(len(self.ids))]
        folder = storage.join(new_folder, REJECTS[ITEMS])
        for file in storage.files(folder):
            table = storage.read_parquet(storage.join(folder, file))
            name = table["file"][0].as_py().rpartition("/")[2]  # a split is of one file
            rows = np.flatnonzero(~self.kept[names.index(name)])[np.asarray(table["row"])]
            at = pa.array([storage.join(prepared, name)] * len(table), pa.string()), pa.array(rows, pa.int64())
            for column, values in zip(("file", "row"), at, strict=True):
                table = table.set_column(table.schema.get_field_index(column), table.schema.field(column), values)
            storage.write_parquet(table, storage.join(out, REJECTS[ITEMS], file))


def _places(ids: pa.Array, among: pa.Array) -> np.ndarray:
    """Where each id stands among others, (n,) int64; -1 for one that is not there."""
    return np.asarray(pc.fill_null(pc.index_in(ids, value_set=among), -1)).astype(np.int64)


def unchanged(job: Job[ItemsRunSettings], signature: EncoderSignature) -> Unchanged | None:
    """What need not be embedded again, where the encoder and what feeds it are those of the version before.

    None where there is no such version, where nothing of it can be taken, or where it names images by their paths:
    these may be others under the same names.
    """
    if not set(job.earlier).issuperset(READS):
        return None
    now, before = (storage.join(f["prepare"], ITEMS) for f in (job.folders, job.earlier))
    try:
        old = read_signature(storage.join(job.earlier["train"], FOLDER))
        precision = storage.read_json(storage.join(job.earlier["embed"], SUMMARY)).get("precision")
        if (old.hash, old.inputs, precision) != (signature.hash, signature.inputs, job.settings.encoder.precision):
            return None
        earlier = read_encoded(job.earlier["embed"], signature.hash)
        parts = [storage.parquet_files(folder, made_by="topkin prepare") for folder in (now, before)]
    except ArtifactError:
        return None
    names = [[path.rpartition("/")[2] for path in paths] for paths in parts]
    if names[0] != names[1]:
        return None
    changed, every, masks = storage.join(job.scratch, "changed"), [], []
    storage.remove_folder(changed)  # of an attempt that died
    for path, former in zip(*parts, strict=True):
        rows, others = storage.read_parquet(path), storage.read_parquet(former)
        if rows.schema != others.schema or _by_path(rows.schema, signature):
            return None
        feeds = [i.name for i in signature.inputs]
        ids = rows["item_id"].combine_chunks()
        at = _places(ids, others["item_id"].combine_chunks())
        same = (at >= 0) & (row_hashes(rows.select(feeds)) == np.append(row_hashes(others.select(feeds)), 0)[at])
        kept = same & (_places(ids, earlier.ids) >= 0)
        every.append(ids)
        masks.append(kept)
        if not kept.all():
            left = rows.filter(pa.array(~kept))
            group = max(1, int(GROUP_BYTES / max(1, left.nbytes / len(left))))
            storage.write_parquet(left, storage.join(changed, path.rpartition("/")[2]), row_group_rows=group)
    outcome = Unchanged(earlier, every, masks, changed)
    return outcome if outcome.rows else None


def _by_path(schema: pa.Schema, signature: EncoderSignature) -> bool:
    images = [i.name for i in signature.inputs if i.kind == "image"]
    return any(pa.types.is_string(t) or pa.types.is_large_string(t) for t in (schema.field(n).type for n in images))

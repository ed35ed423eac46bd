"""The job ``train``: learn the encoder from the prepared purchases.

Writes ``encoder.keras``, ``items.parquet``, ``signature.json``, ``training.json``, the weights of bought items
``repurchase.json``, those of the second stage ``blend.json``, TensorBoard's ``logs/``, and in ``holdout/`` the same
of an encoder that never saw the last days. With ``train.every_days`` the folder may be that of the run published
before, and has ``reference.parquet``.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from topkin.artifacts import storage
from topkin.config import undated
from topkin.config.sections import Settings
from topkin.encoding.reference import Reference
from topkin.models.data.purchase_weights import COLUMN
from topkin.pipelines.encode import given
from topkin.pipelines.engine.job import Job, machine_of, run_pipeline
from topkin.pipelines.engine.stage import Stage, StageReads
from topkin.pipelines.nights import kept
from topkin.pipelines.nights.kept import LiveEncoder
from topkin.planning.estimate import ROW, StageCost, Workload
from topkin.recommend.second.chosen import BLEND, KEPT, TRIED_ON, judge_bytes, judges, sources_trained

if TYPE_CHECKING:
    import numpy as np
    import scipy.sparse as sp

    from topkin.encoding.svd import SpectralSettings, Spectrum
    from topkin.interactions import Interactions
    from topkin.models.data.histories import PreparedHistories
    from topkin.models.training.selection import Selection
    from topkin.models.two_tower.next_item_ridge import NextItemSettings

HOLDOUT = "holdout"
FEW = 200  # users who validate, below which that is said
COUNTED = 4e-6  # seconds of a purchase where workers decompose: counts, days and users of four cuts, by this process
JUDGED = 5.0  # times the candidates of the users who judge sources: joined, those found, and of folds
GRAPH = 16.0  # bytes of a purchase that sources keep, by user and by item
FITTED = 64.0  # bytes of a purchase that sources learn from, while they do
OVERSAMPLING = 32  # columns that a decomposition carries beside its rank
SHUFFLED = 20_000_000  # purchases that training shuffles at a time


@dataclass(frozen=True)
class BeamWorkers:
    """The workers of the runner that a job's flags name, for a training of its prepared folder.

    catalogue: the file that has the ids of the items that are learned.
    """

    job: Job[Settings]
    catalogue: str

    def decompose(
        self,
        purchases: "PreparedHistories",
        weigh: "Callable[[Interactions], sp.csr_matrix]",
        settings: "SpectralSettings",
    ) -> "Spectrum":
        """See ``models.data.histories.Workers``."""
        from topkin.transforms.closed_form.spectrum import DecomposeParts, SpectrumInputs, read_spectrum

        threads = machine_of(self.job.settings, self.job.beam).cores
        inputs = SpectrumInputs(**self._parts(purchases), weigh=weigh, settings=settings, threads=threads)
        run_pipeline(DecomposeParts(inputs), self.job.beam)
        spectrum = read_spectrum(inputs)
        storage.remove_folder(inputs.scratch)
        return spectrum

    def next_item_ridge(
        self,
        purchases: "PreparedHistories",
        in_vectors: "np.ndarray",
        buyers: "np.ndarray",
        settings: "NextItemSettings",
    ) -> "np.ndarray":
        """See ``models.data.histories.Workers``."""
        from topkin.transforms.closed_form.next_item import NextItemInputs, RegressParts, read_vectors, write_vectors

        inputs = NextItemInputs(**self._parts(purchases), dim=in_vectors.shape[1], settings=settings)
        write_vectors(inputs, in_vectors, buyers)
        run_pipeline(RegressParts(inputs), self.job.beam)
        vectors = read_vectors(inputs)
        storage.remove_folder(inputs.scratch)
        return vectors

    def _parts(self, purchases: "PreparedHistories") -> dict[str, Any]:
        """What all passes read, and where they write."""
        return {
            "purchases": purchases.to_send(),
            "catalogue": self.catalogue,
            "n_items": len(purchases.item_ids),
            "scratch": storage.join(self.job.scratch, "closed-form"),
        }


def cost(load: Workload) -> StageCost:
    """One process on little more than one core: what is shuffled at a time, a decomposition, weights and moments.

    From ``train.advanced.svd_workers_from`` on the decomposition is that of a part by a worker, and the process that
    trains holds the blocks that come of it.
    """
    if load.settings.vectors_given:
        return given.cost(load)
    c, train = load.counts, load.settings.train
    epoch = min(c.known, train.max_purchases) if train.epochs else 0
    shuffled = 13.0 * min(c.known, SHUFFLED) + load.share * c.known * (c.id_bytes + 60)
    closed = (decomposed_by_workers if by_workers(load) else decomposed)(load) if train.svd_dim else 0.0
    blocks = (train.dim, load.settings.feature_dim, load.settings.user_feature_dim) if train.epochs else ()
    width = sum(blocks)
    trained = 32.0 * width * learned(load)  # with two moments and a gradient
    # A checkpoint has weights and two moments of each epoch, of the trial and of the final training at most.
    checkpoints = 6.0 * train.epochs * width * (8.0 * learned(load) + load.word_rows / max(load.dim, 1))
    tried = len(sources_trained(load.settings, c.known))
    asked = min(judges(1 + tried, c.items, train.validation_users), c.users)
    # What sources learn, four kinds of neighbours at most and who bought what, of two earlier periods too; then who
    # judges them.
    near = 32.0 * c.items * load.settings.evaluate.neighbours + GRAPH * min(c.known, TRIED_ON)
    fitted = FITTED * min(c.known, TRIED_ON) + near + 2 * min(near, KEPT) if tried else 0.0
    fitted += JUDGED * judge_bytes(1 + tried) * asked if tried else 0.0
    own = 8 * load.own_vectors  # as read, of each validation cut, in the step, and in float64 for the ridge map
    beside = shuffled + load.catalogue + own + fitted
    passes = c.known * load.costs.closed_purchase  # of a closed form, by all workers where they decompose
    cores = load.cores_by_part if by_workers(load) else 1
    # Each block, and what is known of items beside them, for all epochs that may be validated, and then on everything.
    learnt = sum(map(bool, blocks)) + (_content(load) and bool(blocks))
    alone = 2 * train.epochs * epoch * load.costs.training_purchase * learnt
    alone += min(c.known, TRIED_ON) * tried * load.costs.tried_purchase
    alone += c.known * COUNTED if by_workers(load) else 0.0
    return load.cost(
        "train",
        rows=c.known,
        bytes_read=load.histories_file + ROW * epoch * train.epochs + load.own_vectors,
        bytes_written=2 * (load.item_vectors + load.word_rows) + checkpoints,
        cpu_seconds=alone + passes,
        cores=(alone + passes) / max(alone + passes / cores, 1e-9),
        memory=beside + trained + closed,
        cure=_cure(load, beside, trained),
    )


def learned(load: Workload) -> int:
    """Items that are learned."""
    return min(load.counts.items, load.settings.train.max_items)


def by_workers(load: Workload) -> bool:
    """Whether the workers decompose the purchases."""
    return load.counts.known >= load.settings.train.advanced.svd_workers_from


def decomposed(load: Workload) -> float:
    """Bytes of a decomposition in one process: three tall arrays, and the blocks that are kept of them."""
    train = load.settings.train
    columns = 12.0 * (train.advanced.svd_rank + OVERSAMPLING) + 8.0 * (train.svd_dim + train.next_item_dim)
    return learned(load) * columns


def decomposed_by_workers(load: Workload) -> float:
    """Bytes of a decomposition by workers: where its blocks are assembled, or where a part is multiplied.

    Assembled are tables, vectors, those side by side, and these once more in float64; multiplied are the rows of a
    part's items, in place, with columns of what its users meet for each thread. Content is learned from all rows.
    """
    c, train, rows = load.counts, load.settings.train, learned(load)
    kept, rank = train.svd_dim + train.next_item_dim, train.advanced.svd_rank
    part = load.share * c.known
    multiplied = min(rows, part) * 4.0 * (rank + OVERSAMPLING) + 12.0 * part
    multiplied += load.share * c.users * 256.0 * load.machine.cores
    content = 12.0 * rank * rows if _content(load) else 0.0
    return max(32.0 * kept * rows + content, 8.0 * kept * rows + multiplied)


def _content(load: Workload) -> bool:
    """Whether items are learned by what they are, too."""
    items = load.settings.items
    return items is not None and bool(items.title or items.category or items.features)


def _cure(load: Workload, beside: float, trained: float) -> str:
    """The setting with which a training would fit, where there is one: the workers, or no trained block.

    beside: bytes beside a decomposition and the trained block. trained: that block's.
    """
    train, room = load.settings.train, load.machine.memory - load.costs.start_bytes["train"] - beside
    if not train.svd_dim:
        return ""
    if not by_workers(load) and trained + decomposed_by_workers(load) <= room:
        return f"set train.advanced.svd_workers_from = {load.counts.known}"
    closed = (decomposed_by_workers if by_workers(load) else decomposed)(load)
    return "set train.epochs = 0" if train.epochs and closed <= room else ""


def reads(settings: Settings) -> StageReads:
    """What the second stage is chosen of, where one is asked for: other settings of lists do not train again."""
    lists = [settings.of_list(name).recommend for name in settings.list_names]
    second = [own for own in lists if own.baseline is None and own.sources]
    if not second:
        return StageReads()
    asked = any("sources" in own.model_fields_set for own in second)
    read = {"recommend.sources": second[0].sources, "asked": asked, "evaluate.neighbours": settings.evaluate.neighbours}
    return StageReads(settings=read)


def train(job: Job[Settings]) -> dict[str, Any]:
    """Train an encoder on the prepared folder, save it, and say how it went; nothing of vectors made elsewhere."""
    if job.settings.vectors_given:
        return given.describe(job)
    prepared = job.folder("prepare")
    catalogue = storage.read_parquet(storage.join(prepared, "catalogue.parquet"))
    columns = encoded(job.settings, catalogue.schema, prepared)
    live = LiveEncoder.of(job, columns)
    if live.folder is not None:
        return {**kept.take(live.folder, job.out), "notes": [live.why]}
    from topkin.models.data.histories import open_prepared
    from topkin.models.ops import device
    from topkin.models.training.context import TrainingContext
    from topkin.models.training.fit import fit
    from topkin.models.training.tensorboard import Scalars
    from topkin.models.training.validation import METRIC
    from topkin.models.two_tower import serialization

    where = device.set_up()
    settings = job.settings
    learned, histories = open_prepared(prepared, catalogue, job.as_of, settings)
    known = int(storage.read_json(storage.join(prepared, "statistics.json"))["events"])
    if known >= settings.train.advanced.svd_workers_from:
        ids = storage.join(prepared, "catalogue.parquet")
        if histories.some:
            ids = storage.join(job.scratch, "learned.parquet")
            storage.write_parquet(learned.select(["item_id"]), ids)
        histories = replace(histories, workers=BeamWorkers(job, ids))
    context = replace(TrainingContext.of(settings), sources=sources_trained(settings, known))
    held = storage.join(job.scratch, HOLDOUT)
    with Scalars(storage.join(job.out, "logs")) as scalars, device.repeatable():
        training = fit(context, histories, learned, scratch=job.scratch, holdout_folder=held, on_epoch=scalars.epoch)
    selection, epochs = training.selection, len(training.epochs)
    validation = None
    if selection.validation is not None:
        validation = {METRIC: selection.validation, "epoch": epochs, "interval": selection.interval}
        validation |= dict(selection.judges)
    saved = serialization.save(training.encoder, job.out, {"seed": context.seed, "validation": validation})
    if training.holdout["reason"] is None:
        storage.copy_folder(held, storage.join(job.out, HOLDOUT), last="signature.json")
    record = {**training.to_json(), "holdout": training.holdout, "device": where}
    storage.write_json(record, storage.join(job.out, "training.json"))
    storage.write_json(dict(training.repurchase), storage.join(job.out, "repurchase.json"))
    storage.write_json(dict(training.blend), storage.join(job.out, BLEND))
    if settings.train.every_days:
        Reference.of(catalogue, columns, job.as_of).write(job.out, saved.hash)
    return {
        "blocks": {block.name: {"dim": block.dim, "weight": block.weight} for block in training.encoder.blocks},
        "epochs": epochs,
        f"validation_{METRIC}": selection.validation,
        "items": len(training.encoder.ids),
        "notes": [
            *sampled(settings, known, len(catalogue)),
            *notes(selection),
            *undated.notes(settings, "train"),
            *filter(None, [unread(settings), live.why]),
        ],
    }


def encoded(settings: Settings, catalogue: pa.Schema, prepared: str) -> pa.Schema:
    """The columns that an encoder takes as they are: the catalogue's, and features of users and purchases."""
    own = {"features": settings.users and settings.users.features, COLUMN: settings.purchases.features}
    if not (names := [name for name, features in own.items() if features]):
        return catalogue
    part = storage.files(storage.join(prepared, "histories"))[0]
    users = storage.read_parquet(storage.join(prepared, "histories", part), names).schema
    return pa.schema([*catalogue, *(field.with_name(f"users.{field.name}") for field in users)])


def sampled(settings: Settings, known: int, items: int) -> list[str]:
    """What a person must know of a training of a part of the data. known, items: purchases, and items of the shop."""
    train, words = settings.train, []
    if items > train.max_items:
        words.append(
            f"the {train.max_items:,} of {items:,} items that sold most are learned (train.max_items), "
            "others are known by what they are"
        )
    if train.epochs and known > train.max_purchases:
        words.append(
            f"an epoch reads about {train.max_purchases:,} of {known:,} purchases, of users drawn anew each time "
            "(train.max_purchases)"
        )
    return words


def notes(selection: "Selection") -> list[str]:
    """What a person must know of a training: that nothing was validated, what was left out and why."""
    return [note for note in (validated(selection), selection.left_out) if note]


def unread(settings: Settings) -> str:
    """That no block reads the users' features, where that is so; else the empty string."""
    if settings.users is None or not settings.users.features or (settings.user_feature_dim and settings.train.epochs):
        return ""
    key = "train.user_feature_dim" if settings.train.epochs else "train.epochs"
    return f"users.features are read by the block that is trained on them, and {key} is 0: users are their purchases"


def validated(selection: "Selection") -> str:
    """What chose the settings, how sure that is, and that it was little where it was; or why nothing did."""
    if selection.validation is None or selection.interval is None:
        return selection.stopped
    users, days = int(selection.judges["users"]), selection.judges["days"]
    held = "position" if selection.by_position else "day" if days == 1 else f"{days:.3g} days"
    periods = int(selection.without_training.get("periods", 1))
    low, high = selection.interval
    text = f"validated on the last {held} of {users:,} users: between {low:.4f} and {high:.4f} (95 %)"
    text += f", weights on {periods} such periods" if periods > 1 else ""
    few = users < FEW or high - low > selection.validation
    return f"{text}; that is little to choose by, so that what is simpler was kept" if few else text


STAGE = Stage(
    name="train",
    folder="model",
    sections=("run", "prepare", "train"),
    needs=lambda settings: ("prepare",),
    earlier=kept.earlier("train"),
    reads=reads,
    cost=cost,
    work=train,
)

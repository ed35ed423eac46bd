"""The job ``train``: learn the encoder from the prepared purchases.

Writes ``encoder.keras``, ``items.parquet``, ``signature.json``, ``training.json``, the weights of bought items
``repurchase.json``, those of the second stage ``blend.json``, TensorBoard's ``logs/``, and in ``holdout/`` the same
of an encoder that never saw the last days. With ``train.every_days`` the folder may be that of the run published
before, and has ``reference.parquet``.
"""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from topkin.artifacts import storage
from topkin.config import undated
from topkin.config.sections import Settings
from topkin.encoding.reference import Reference
from topkin.pipelines.encode import given
from topkin.pipelines.engine.job import Job
from topkin.pipelines.engine.stage import Stage, StageReads
from topkin.pipelines.nights import kept
from topkin.pipelines.nights.kept import LiveEncoder
from topkin.planning.estimate import StageCost, Workload
from topkin.recommend.second.chosen import BLEND, sources_tried

if TYPE_CHECKING:
    from topkin.models.training.selection import Selection

HOLDOUT = "holdout"
FEW = 200  # users who validate, below which that is said
SHUFFLED = 20_000_000  # purchases that training shuffles at a time


def cost(load: Workload) -> StageCost:
    """One process on little more than one core: what is shuffled at a time, a decomposition, weights and moments."""
    if load.settings.vectors_given:
        return given.cost(load)
    c, train = load.counts, load.settings.train
    shuffled = 13.0 * min(c.known, SHUFFLED) + load.share * c.known * (c.id_bytes + 60)
    rank, kept = train.advanced.svd_rank, train.svd_dim + train.next_item_dim
    closed = 12.0 * (rank + 32) + 8.0 * kept if train.svd_dim else 0.0
    trained = 32.0 * (train.dim + load.settings.feature_dim if train.epochs else 0)  # with two moments and a gradient
    sources = (
        load.fitted if sources_tried(load.settings.recommend, c.known) else 0.0
    )  # fitted on all purchases before each period
    own = 8 * load.own_vectors  # as read, of each validation cut, in the step, and in float64 for the ridge map
    return load.cost(
        "train",
        rows=c.known,
        bytes_read=load.histories_file * (1 + train.epochs) + load.own_vectors,
        bytes_written=2 * (load.item_vectors + load.word_rows),
        cpu_seconds=c.known * load.costs.training_purchase,
        cores=1,
        memory=shuffled + c.items * (closed + trained) + load.catalogue + own + sources,
    )


def reads(settings: Settings) -> StageReads:
    """What the second stage is chosen of, where one is asked for: other settings of lists do not train again."""
    sources = settings.recommend.sources if settings.recommend.baseline is None else ()
    if not sources:
        return StageReads()
    asked = "sources" in settings.recommend.model_fields_set
    read = {"recommend.sources": sources, "asked": asked, "evaluate.neighbours": settings.evaluate.neighbours}
    return StageReads(settings=read)


def train(job: Job[Settings]) -> dict[str, Any]:
    """Train an encoder on the prepared folder, save it, and say how it went; nothing of vectors made elsewhere."""
    if job.settings.vectors_given:
        return given.describe(job)
    prepared = job.folder("prepare")
    catalogue = storage.read_parquet(storage.join(prepared, "catalogue.parquet"))
    live = LiveEncoder.of(job, catalogue.schema)
    if live.folder is not None:
        return {**kept.take(live.folder, job.out), "notes": [live.why]}
    from topkin.models.data.histories import PreparedHistories
    from topkin.models.ops import device
    from topkin.models.training.context import TrainingContext
    from topkin.models.training.fit import fit
    from topkin.models.training.tensorboard import Scalars
    from topkin.models.training.validation import METRIC
    from topkin.models.two_tower import serialization

    where = device.set_up(deterministic=True)
    settings = job.settings
    histories = PreparedHistories(storage.join(prepared, "histories"), catalogue["item_id"], job.as_of)
    known = int(storage.read_json(storage.join(prepared, "statistics.json"))["events"])
    context = replace(TrainingContext.of(settings), sources=sources_tried(settings.recommend, known))
    held = storage.join(job.scratch, HOLDOUT)
    with Scalars(storage.join(job.out, "logs")) as scalars:
        training = fit(context, histories, catalogue, scratch=job.scratch, holdout_folder=held, on_epoch=scalars.epoch)
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
        Reference.of(catalogue, job.as_of).write(job.out, saved.hash)
    return {
        "blocks": {block.name: {"dim": block.dim, "weight": block.weight} for block in training.encoder.blocks},
        "epochs": epochs,
        f"validation_{METRIC}": selection.validation,
        "items": len(training.encoder.ids),
        "notes": [*notes(selection), *undated.notes(settings, "train"), *filter(None, [live.why])],
    }


def notes(selection: "Selection") -> list[str]:
    """What a person must know of a training: that nothing was validated, what was left out and why."""
    return [note for note in (validated(selection), selection.left_out) if note]


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

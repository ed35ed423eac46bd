"""Which known item each row of a table is, by a finished run over items alone: what ``topkin match`` does."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from topkin.artifacts import manifest, storage
from topkin.artifacts.embeddings import ITEMS
from topkin.artifacts.runs import Run
from topkin.config.encoder import EncoderSettings
from topkin.config.encoder_run import EncoderRunSettings
from topkin.config.items_run import ItemsRunSettings
from topkin.config.sections import ItemsSettings
from topkin.errors import ConfigError
from topkin.pipelines.encode.table import embed_table
from topkin.pipelines.engine.job import SCRATCH, run_pipeline
from topkin.pipelines.engine.vectors_folder import STAGE_NAME
from topkin.pipelines.items.encoder import FOLDER


@dataclass(frozen=True, kw_only=True)
class Matches:
    """What was made.

    Args:
        folder: The output.
        run_id: The run whose items were looked up.
        threshold: The least cosine of a match.
        read: Rows of the table.
        queries: Rows with a vector.
        matched: Those that are a known item.
        zero: Those whose vector is zero, which are near to nothing.
        rejects: Rejected rows by reason, the most frequent first.
    """

    folder: str
    run_id: str
    threshold: float
    read: int
    queries: int
    matched: int
    zero: int
    rejects: Mapping[str, int]


def match(
    settings: ItemsRunSettings,
    run: Run,
    queries: str,
    output: str,
    *,
    query_id: str | None = None,
    threshold: float | None = None,
    force: bool = False,
    beam: Sequence[str] = (),
    tell: Callable[[str], None] = lambda line: None,
) -> Matches:
    """Look the rows of a table up among the items of a run.

    Args:
        settings: The run's.
        run: Finished; its encoder and its index are asked.
        queries: A Parquet file, a folder of them, or a glob, of the columns that feed the encoder.
        output: The folder that is made.
        query_id: Its column of ids; without it the items'.
        threshold: The least cosine of a match; what ``evaluate`` calibrated without it.
        force: Replace what an earlier call made there.
        beam: Flags for Beam.
        tell: Called with what is to be said before the work.

    Raises:
        ConfigError: There is no threshold.
        TopkinError: As ``embed_table``.
    """
    from topkin.transforms.items.match import MatchInputs, MatchQueries

    if not storage.exists(storage.join(run.folder("train"), FOLDER)):
        raise ConfigError(f"run {run.run_id} is over purchases: topkin match asks one over items alone, --run names it")
    if not storage.read_json(storage.join(run.folder("index"), "index.json"))["indexed"]:
        raise ConfigError(f"the index of run {run.run_id} holds no item: nothing can be matched")
    least = calibrated(run) if threshold is None else threshold
    own = settings.queries
    encode = EncoderRunSettings(
        encoder=EncoderSettings(
            path=storage.join(run.folder("train"), FOLDER),
            jit_compile=settings.encoder.jit_compile,
            precision=settings.encoder.precision,
        ),
        items=ItemsSettings(
            path=queries,
            item_id=query_id or (own and own.item_id) or settings.items.item_id,
            normalise=own.normalise if own is not None else settings.items.normalise,
        ),
        embed=settings.embed,
    )
    queries_of = "items" if own is None else "queries"
    vectors = embed_table(encode, output, queries_of=queries_of, force=force, beam=beam, tell=tell)
    inputs = MatchInputs(
        index=run.folder("index"),
        catalogue=storage.join(run.folder("prepare"), "catalogue.parquet"),
        encoder=vectors.encoder,
        threshold=least,
    )
    tally = storage.join(output, SCRATCH, "matches.json")
    paths = storage.parquet_files(storage.join(output, ITEMS))
    run_pipeline(MatchQueries(inputs, paths, storage.join(output, "matches"), tally), beam)
    counts = storage.read_json(tally)["queries"]
    storage.remove_folder(storage.join(output, SCRATCH))
    sealed = manifest.read(output)
    assert sealed is not None
    summary = {**sealed["summary"], "run_id": run.run_id, "threshold": least, "matched": counts["matched"]}
    manifest.seal(output, stage=STAGE_NAME, key=vectors.encoder, summary=summary)
    return Matches(
        folder=output,
        run_id=run.run_id,
        threshold=least,
        read=vectors.read,
        queries=counts["all"],
        matched=counts["matched"],
        zero=counts["zero"],
        rejects=vectors.rejects,
    )


def calibrated(run: Run) -> float:
    """The threshold that a run's queries gave. Raises ConfigError where they gave none."""
    metrics = storage.read_json(storage.join(run.folder("evaluate"), "metrics.json"))
    chosen = metrics["match"]
    if chosen is None or chosen["threshold"] is None:
        why = metrics["unjudged"] if chosen is None else chosen["reason"]
        raise ConfigError(f"a match needs a least cosine, the run has none: {why}; name one by --threshold")
    return float(chosen["threshold"])

"""Stages that a job finishes by itself: its last step, on a worker, does what the launcher does else, and seals.

What a launcher that did not wait leaves is a note in the run, ``job-<folder>.json``: the job, and the folders in which
it works. Whoever comes next finds the stage sealed, or asks the service what became of the job.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from topkin.artifacts import manifest, stage_index, storage
from topkin.errors import ArtifactError, BusyError
from topkin.pipelines.engine import attempts, launch
from topkin.pipelines.engine.job import OnePipeline
from topkin.pipelines.engine.runner import DATAFLOW, beam_options, wrong_flags

if TYPE_CHECKING:
    import apache_beam as beam

_ASKED = ("project", "region", "dataflow_endpoint", "no_auth")
"""Options by which the service of a job is asked for it."""


@dataclass(frozen=True, kw_only=True)
class Seal:
    """The end of an attempt at a stage: its folder is sealed, found by its key, and has its place. It is pickled.

    root: the output folder. run: that of the run, relative to it. stage, folder: the stage's name, and of its folder.
    attempt: where the stage was made.
    """

    root: str
    run: str
    stage: str
    folder: str
    key: str
    recipe: str
    attempt: str

    @property
    def target(self) -> str:
        """The stage's folder once it is sealed."""
        run_path = storage.join(self.root, self.run)
        return self.attempt if storage.in_place(self.attempt) else storage.join(run_path, self.folder)

    def is_done(self) -> bool:
        """Whether the stage's folder is there, sealed and whole."""
        return _whole(self.target, self.key) is not None

    def __call__(self, summary: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """Seal what is there; returns the stage's folder, relative to the output, and the summary that counts."""
        target = self.target
        folder = storage.join(self.run, target.rpartition("/")[2])
        if target == self.attempt:  # the manifest alone makes it the stage's
            stage_index.note(self.root, self.key, folder)
        sealed = manifest.seal(self.attempt, stage=self.stage, key=self.key, summary=summary, recipe=self.recipe)
        if target != self.attempt:
            stage_index.note(self.root, self.key, folder)
            sealed = _put(self.attempt, target, self.key)
        return folder, dict(sealed["summary"])


def _put(attempt: str, target: str, key: str) -> dict[str, Any]:
    """Move a sealed attempt to its place, unless another process did so meanwhile; returns the manifest there."""
    if (first := _whole(target, key)) is None:
        storage.remove_folder(target)  # damaged, or not finished
        try:
            storage.move_folder(attempt, target, last=manifest.NAME)
        except OSError:
            if (first := _whole(target, key)) is None:
                raise
    storage.remove_folder(attempt)
    return first or manifest.verify(target, contents=False)


def _whole(folder: str, key: str) -> dict[str, Any] | None:
    """The manifest of a folder whose files are all there and were made with this key, or None."""
    try:
        sealed = manifest.verify(folder, contents=False)
    except ArtifactError:
        return None
    return sealed if sealed["key"] == key else None


@dataclass(frozen=True)
class _Last:
    """The last step: finishes a stage and seals it, once all other steps have ended."""

    finish: Callable[[], dict[str, Any]]
    seal: Seal

    def __call__(self, _: None, nothing: Sequence[object]) -> str:
        storage.forget_seen()  # other workers wrote it
        if not self.seal.is_done():  # a worker that is lost after the seal has this step done again
            self.seal(self.finish())
        run_path = storage.join(self.seal.root, self.seal.run)
        attempts.end(run_path, self.seal.folder, self.seal.key)
        attempts.remove_note(run_path, self.seal.folder)  # it may not be there yet
        return self.seal.target


def _none_of(_: object) -> Iterator[int]:
    return iter(())


def sealing(work: OnePipeline, seal: Seal) -> "Callable[[beam.Pipeline], None]":
    """What applies a stage to a pipeline, and behind every step of it the one that finishes and seals."""

    def build(pipeline: "beam.Pipeline") -> None:
        import apache_beam as beam
        from apache_beam.pvalue import AsList

        if isinstance(work.transform, beam.PTransform):
            pipeline | work.transform
        else:
            work.transform(pipeline)
        nothing = [
            end | f"Wait for {number}" >> beam.FlatMap(_none_of).with_output_types(int)
            for number, end in enumerate(_ends(pipeline))
        ]
        ended = nothing | "Wait" >> beam.Flatten()
        last = beam.Map(_Last(work.finish, seal), AsList(ended)).with_output_types(str)
        pipeline | "Last" >> beam.Create([None]) | "Seal" >> last

    return build


def _ends(pipeline: "beam.Pipeline") -> list[Any]:
    """The collections that no step of a pipeline reads."""
    from apache_beam.pipeline import PipelineVisitor

    values: dict[Any, Any] = {}
    read: set[Any] = set()

    class Look(PipelineVisitor):
        def visit_transform(self, transform_node: Any) -> None:
            read.update(id(side.pvalue) for side in transform_node.side_inputs)
            read.update(map(id, transform_node.inputs))

        def visit_value(self, value: Any, producer_node: Any) -> None:
            values[id(value)] = value

    pipeline.visit(Look())
    return [value for key, value in values.items() if key not in read]


def refuse(flags: Sequence[str]) -> None:
    """Raise ConfigError where a job does not go on without the process that submits it, or cannot be asked for."""
    runner = beam_options(flags).get_all_options()["runner"] if flags else "the runner of this process"
    if runner != DATAFLOW:
        raise wrong_flags(f"--no-wait is for {DATAFLOW} alone, {runner} is waited for: leave --no-wait out", flags)


def submit(work: OnePipeline, seal: Seal, scratch: str, flags: Sequence[str]) -> dict[str, Any]:
    """Submit a stage as a job that seals itself, and leave a note; returns what is told of it.

    With ``--template_location`` there is no job yet, and no note: the template is told.
    """
    values = beam_options(flags).get_all_options()
    result = launch.submit(sealing(work, seal), flags)
    if template := values["template_location"]:
        return {"template": template}
    note = {
        "job": result.job_id(),
        "at": launch.place(result, values),
        "stage": seal.stage,
        "key": seal.key,
        "submitted": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "folders": [seal.attempt.rpartition("/")[2], scratch.rpartition("/")[2]],
        "options": {name: values[name] for name in _ASKED},
    }
    storage.write_json(note, storage.join(seal.root, seal.run, attempts.note_name(seal.folder)))
    return {name: note[name] for name in ("job", "at")}


def ended_job(run_path: str, stage: str, folder: str) -> str:
    """What became of the job that was to make a stage's folder, for the screen; empty where there is none.

    Raises BusyError while it runs.
    """
    note = attempts.read_note(run_path, attempts.note_name(folder))
    if note is None:
        return ""
    if (state := state_of(note)) not in launch.ENDED:
        raise BusyError(
            f"{stage} is made by {note['at']}, submitted {note['submitted']}, which is {state or 'not to be asked'}: "
            "run again when it has ended, or cancel it first"
        )
    return f"job {note['job']} ended {state}"


def refuse_beside_jobs(root: str) -> None:
    """Raise BusyError while a job that nobody waits for may write into any run of an output folder."""
    for run_id in storage.folders(storage.join(root, "runs")):
        run_path = storage.join(root, "runs", run_id)
        for folder, note in attempts.notes(run_path).items():
            ended_job(run_path, note["stage"], folder)


def state_of(note: Mapping[str, Any]) -> str:
    """What the service says of a job; empty where it cannot be asked. A job that it does not know has FAILED."""
    try:
        from apache_beam.options.pipeline_options import PipelineOptions
        from apache_beam.runners.dataflow.dataflow_runner import DataflowPipelineResult
        from apache_beam.runners.dataflow.internal.apiclient import DataflowApplicationClient

        job = DataflowApplicationClient(PipelineOptions([], **note["options"])).get_job(note["job"])
        return str(DataflowPipelineResult.api_jobstate_to_pipeline_state(job.current_state))
    except Exception as e:  # noqa: BLE001 - whatever the client raises, or what is not installed
        return "FAILED" if getattr(e, "code", None) == HTTPStatus.NOT_FOUND else ""

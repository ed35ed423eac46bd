"""The stage engine: what is done already is not done again, what died goes on where it stopped.

A stage's key hashes its settings, the keys of the stages before it, the input files, what it reads of the runs that
were published before and topkin's own source. A finished stage with the same key, in this run or an earlier one, is
taken as it is. A stage writes into a hidden folder of its own attempt, which is sealed and renamed when all of it is
there; the scratch folder of an attempt that died goes to the next one. One process at a time works in an output folder.
"""

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any

from topkin.artifacts import lock, manifest, runs, stage_index, storage
from topkin.artifacts.storage import files_of_mode
from topkin.config.items_run import RunSettingsOfAnyKind
from topkin.config.sections import Settings
from topkin.ending import shortage, signals
from topkin.ending.watch import watched
from topkin.ending.workers import end_workers
from topkin.errors import ArtifactError, ConfigError
from topkin.pipelines.engine import attempts, detached, registry
from topkin.pipelines.engine.detached import Seal
from topkin.pipelines.engine.earlier import EarlierRuns, earlier_runs
from topkin.pipelines.engine.job import InOnePipeline, Job, machine_of
from topkin.pipelines.engine.parts import with_parts
from topkin.pipelines.engine.registry import ORDER, ORDERS
from topkin.pipelines.engine.runner import refuse_local_paths, refuse_template
from topkin.pipelines.engine.stage import WHERE, Stage
from topkin.planning.estimate import InputCounts, Machine, Plan, StageCost, Workload, plan, refuse
from topkin.telemetry import progress
from topkin.telemetry.freed import tensors_by_c_library
from topkin.telemetry.profiling import Usage, measure_usage


def needed(name: str, settings: RunSettingsOfAnyKind) -> list[str]:
    """The stages that a stage needs, those that they need and itself, in order."""
    wanted, order = {name}, ORDERS[settings.kind]
    for other in reversed(order):
        if other in wanted:
            wanted.update(registry.stage(other, settings.kind).needs(settings))
    return [other for other in order if other in wanted]


def keys(settings: RunSettingsOfAnyKind, as_of: datetime) -> dict[str, str]:
    """The key of every stage for these settings, inputs, date and published runs."""
    settings = with_parts(settings)
    return _keys(settings, as_of, earlier_runs(settings, as_of))[0]


def _keys(
    settings: RunSettingsOfAnyKind, as_of: datetime, earlier: Mapping[str, EarlierRuns]
) -> tuple[dict[str, str], dict[str, str]]:
    """The keys of the stages, and their recipes: what is left of a key where date, data and files may be others."""
    values = settings.model_dump(mode="json")
    for name in WHERE:
        values["run"].pop(name)
    by_stage: dict[str, str] = {}
    recipes: dict[str, str] = {}
    for name in ORDERS[settings.kind]:
        stage = registry.stage(name, settings.kind)
        reads = stage.reads(settings)
        made_by = {
            "stage": name,
            "settings": {section: values[section] for section in stage.sections},
            "other_settings": reads.settings,
        }
        anywhere = {section: _without_path(values[section]) for section in stage.sections}
        needs = stage.needs(settings)
        recipes[name] = runs.stage_key(
            {
                **made_by,
                "settings": anywhere,
                "before": {other: recipes[other] for other in needs},
                "files": reads.files if needs else (),  # lists of items; the first stage's are the data
            }
        )
        by_stage[name] = runs.stage_key(
            {
                **made_by,
                "as_of": as_of.isoformat() if stage.dated else None,
                "before": {other: by_stage[other] for other in needs},
                "earlier": earlier[name].identity,
                "files": reads.files,
                "today": reads.today and reads.today.isoformat(),
            }
        )
    return by_stage, recipes


def _without_path(section: Any) -> Any:
    """The values of a section, and of those inside it, but for where files are, which may be others each night."""
    if not isinstance(section, dict):
        return section
    return {n: _without_path(v) for n, v in section.items() if n != "path" or isinstance(v, dict)}


def plan_stages(counts: InputCounts, settings: Settings, machine: Machine, names: Sequence[str] = ORDER) -> Plan:
    """What stages will cost: all of them, or those named."""
    load = Workload(counts=counts, settings=settings, machine=machine)
    return plan(load, [cost for name in names if (cost := registry.stage(name).cost) is not None])


def find_run(root: str, name: str) -> str | None:
    """The newest run by the name that :func:`runs.run_name` gives, forced ones after it; None where there is none."""
    names = storage.folders(storage.join(root, "runs"))
    attempts = [run_id for run_id in names if run_id == name or run_id.rpartition("+")[0] == name]
    there = [n for n in attempts if storage.exists(storage.join(root, "runs", n, "run.json"))]
    return max(there, key=_attempt, default=None)


def _attempt(run_id: str) -> int:
    number = run_id.rpartition("+")[2]
    return int(number) if "+" in run_id and number.isdigit() else 1


@dataclass(frozen=True)
class Event:
    """What the engine reports while it works: ``state`` is started, finished, reused, or submitted as a job that is
    not waited for, whose summary says which; with a finish its usage.

    cost: with a start, what the plan says, where there is one.
    """

    stage: str
    state: str
    seconds: float = 0.0
    summary: Mapping[str, Any] | None = None
    usage: Usage | None = None
    cost: StageCost | None = None


@dataclass(frozen=True, kw_only=True)
class _Work:
    """What all stages of one call share."""

    settings: RunSettingsOfAnyKind
    keys: Mapping[str, str]
    recipes: Mapping[str, str]
    earlier: Mapping[str, EarlierRuns]
    beam: Sequence[str]
    tell: Callable[[Event], None]
    wait: bool = True

    def stage(self, name: str) -> Stage:
        """A stage of this kind of run."""
        return registry.stage(name, self.settings.kind)

    def record(self, run: runs.Run, stage: str, folder: str, seconds: float, *, reused: bool) -> runs.Run:
        """Note a finished stage in ``run.json``."""
        entry = {"key": self.keys[stage], "folder": folder, "seconds": seconds, "reused": reused}
        return runs.record_stage(run, stage, entry, self.settings.model_dump(mode="json"))

    def adopt(self, run: runs.Run, stages: Sequence[str]) -> runs.Run:
        """Take finished stages with the wanted keys from this run or earlier ones, if they are whole."""
        for stage in stages:
            if stage in run.folders:
                folder: str | None = run.folders[stage].removeprefix(run.root).lstrip("/")
            else:
                folder = stage_index.find(run.root, self.keys[stage])
            if folder is None:
                continue
            try:
                sealed = manifest.verify(storage.join(run.root, folder), contents=False)
                run.check_seal(stage, sealed)
            except ArtifactError:
                run = replace(run, folders={s: f for s, f in run.folders.items() if s != stage})
                continue
            attempts.end(run.path, self.stage(stage).folder, self.keys[stage])
            if stage not in run.folders:
                run = self.record(run, stage, folder, 0.0, reused=True)
            signals.goes_on_after(stage)
            self.tell(Event(stage, "reused", 0.0, sealed["summary"]))
        return run

    def after_job(self, run: runs.Run, name: str, *, adopt: bool) -> runs.Run:
        """The run with what a job sealed that nobody waited for; what it did not seal is told, to be done again.

        Raises BusyError while it runs.
        """
        folder = self.stage(name).folder
        if not (ended := detached.ended_job(run.path, name, folder)):
            return run
        storage.forget_seen()
        if adopt:  # again: it may have sealed the stage since this process looked
            run = self.adopt(run, (name,))
        if name not in run.folders:
            progress.note(f"{ended} and sealed no {name}: it is done again")
        attempts.remove_note(run.path, folder)
        return run

    def execute(self, run: runs.Run, name: str, cost: StageCost | None) -> runs.Run:
        """Do a stage in a folder of its own attempt, seal that and move it to its place.

        Where nobody waits, a stage that is one pipeline is submitted instead, and the run comes back without it.
        """
        stage, key = self.stage(name), self.keys[name]
        attempts.sweep(run.path, stage.folder)
        attempt, scratch = attempts.paths(run.path, stage.folder, key)
        # No other folder than those whose keys are part of this stage's key.
        before = {s: folder for s, folder in run.folders.items() if s in stage.needs(self.settings)}
        job = Job(
            settings=self.settings,
            as_of=run.as_of,
            out=attempt,
            scratch=scratch,
            folders=before,
            earlier=self.earlier[name].folders,
            versions=self.earlier[name].versions,
            recipe=self.recipes[name],
            beam=self.beam,
        )
        seal = Seal(
            root=run.root,
            run=f"runs/{run.run_id}",
            stage=name,
            folder=stage.folder,
            key=key,
            recipe=self.recipes[name],
            attempt=attempt,
        )
        with signals.half_made(partial(_remove_attempt, attempt)):  # before it is there: a signal may come in between
            attempts.begin(run.path, stage.folder, key, attempt, scratch)
            self.tell(Event(name, "started", cost=cost))
            with watched(name, run.root, self.settings.run.timeout_seconds), measure_usage() as usage:
                summary, submitted = self._done_or_submitted(stage, job, seal)
            if submitted:
                self.tell(Event(name, "submitted", summary=summary))
                return run
            folder, summary = seal(summary)
        attempts.end(run.path, stage.folder, key)
        signals.goes_on_after(name)
        run = self.record(run, name, folder, usage.seconds, reused=False)
        self.tell(Event(name, "finished", usage.seconds, summary, usage))
        return run

    def _done_or_submitted(self, stage: Stage, job: Job[Any], seal: Seal) -> tuple[dict[str, Any], bool]:
        """A stage's summary; or what is told of the job that makes it by itself, and that it is that."""
        work = stage.work
        if self.wait or not isinstance(work, InOnePipeline):
            return stage.execute(job), False
        secret = {"run": job.settings.run.model_copy(update={"webhook": None})}  # a job's graph is stored
        job = replace(job, settings=job.settings.model_copy(update=secret))
        begun = work.begin(job)
        if isinstance(begun, dict) or begun.only_attached:
            return work.done(begun, job), False
        return detached.submit(begun, seal, job.scratch, self.beam), True


def run_stages(
    settings: RunSettingsOfAnyKind,
    *,
    as_of: datetime,
    only: str | None = None,
    force: bool = False,
    beam: Sequence[str] = (),
    tell: Callable[[Event], None] = lambda event: None,
    wait: bool = True,
) -> runs.Run:
    """Do the stages that are not done yet, in order.

    Forced work goes into a new run, so that nothing published changes.

    Args:
        settings: The configuration; ``run.output`` is where the runs lie.
        as_of: Naive UTC: purchases before it are known.
        only: One stage, in place of all.
        force: Do them though they are done.
        beam: Flags for Beam.
        tell: Called with what happens.
        wait: False ends with the first stage that is one pipeline, submitted as a job that seals it: see ``submitted``
            among the events.

    Returns:
        The run, with the folders of its finished stages.

    Raises:
        ConfigError: ``only`` names a stage whose needs have not run, or a stage does not fit the machine.
        BusyError: Another process works in the output folder.
    """
    shortage.check_addresses()
    if only is not None:
        registry.stage(only, settings.kind)  # a kind of run may not have it
    if force and not wait:
        raise ConfigError(
            "--no-wait goes on after what is sealed, which --force does anew, got both: leave one of them out"
        )
    refuse_local_paths(settings, beam)  # wrong flags are told before any work
    if wait:
        refuse_template(beam)
    else:
        detached.refuse(beam)
    own = isinstance(settings, Settings) and settings.encoder is None  # products and tables, no convolutions
    with (
        alone(settings, f"topkin {only or 'run'} as of {as_of.isoformat()}") as held,
        tensors_by_c_library() if own else nullcontext(),
    ):
        return _run_stages(settings, held, as_of=as_of, only=only, force=force, beam=beam, tell=tell, wait=wait)


@contextmanager
def alone(settings: RunSettingsOfAnyKind, what: str) -> Iterator[lock.Lock]:
    """Work in the output folder while nobody else does, with files of ``run.mode``.

    Raises ConfigError where the folder cannot be written, BusyError where another process works there for longer than
    ``run.wait``.
    """
    with files_of_mode(settings.run.mode):
        _writable(settings.run.output)
        with ExitStack() as stack:
            try:
                held = stack.enter_context(lock.hold(settings.run.output, what, wait=settings.run.wait))
            except OSError as e:
                raise _not_writable(settings.run.output, e) from e
            stack.enter_context(storage.remembering())
            yield held


def _run_stages(
    settings: RunSettingsOfAnyKind,
    held: lock.Lock,
    *,
    as_of: datetime,
    only: str | None,
    force: bool,
    beam: Sequence[str],
    tell: Callable[[Event], None],
    wait: bool,
) -> runs.Run:
    root, settings = settings.run.output, with_parts(settings)
    earlier = earlier_runs(settings, as_of)
    by_stage, recipes = _keys(settings, as_of, earlier)
    work = _Work(settings=settings, keys=by_stage, recipes=recipes, earlier=earlier, beam=beam, tell=tell, wait=wait)
    name = runs.run_name(as_of, work.keys)
    before = find_run(root, name)
    run_id = before or name
    forced_id = f"{name}+{_attempt(run_id) + 1}"
    if force and only is None and before:
        run_id = forced_id
    held.renew(run_id=run_id)
    run = runs.read_if_there(root, run_id) or runs.Run(root, run_id, as_of)
    if run.folders and storage.in_place(root):
        storage.files(run.path)  # listed once, not stage by stage
    names = ORDERS[settings.kind] if only is None else (only,)
    if only is not None:
        needs = registry.stage(only, settings.kind).needs(settings)
        run = work.adopt(run, needs)
        if force and only in run.folders:
            run = work.adopt(runs.Run(root, forced_id, as_of), needs)
    for number, stage in enumerate(names):
        if not force:
            run = work.adopt(run, (stage,))
        if stage not in run.folders:
            run = work.after_job(run, stage, adopt=not force)
        if stage not in run.folders:
            cost = None
            if "prepare" in run.folders and isinstance(settings, Settings):  # before hours of training, not after
                counts = InputCounts.of_prepared(run.folders["prepare"])
                left = plan_stages(counts, settings, machine_of(settings, beam), names[number:])
                refuse(left)
                cost = next((planned for planned in left.stages if planned.stage == stage), None)
            run = work.execute(run, stage, cost)
            if stage not in run.folders:  # others need it
                return run
    return run


def _writable(root: str) -> None:
    if storage.in_place(root):  # the lock is the first write
        return
    try:
        storage.make_folder(root)
        probe = storage.join(root, f".write-{uuid.uuid4().hex}")
        storage.write_bytes(b"", probe)
        fs, inner = storage.filesystem(probe)
        fs.delete_file(inner)
    except OSError as e:
        raise _not_writable(root, e) from e


def _not_writable(root: str, why: OSError) -> ConfigError:
    return ConfigError(f"run.output must be a folder that can be written, got {root}: {why}")


def _remove_attempt(folder: str) -> None:
    """Remove what a stage had made when it ended, and Beam's workers, which would go on to write there."""
    end_workers()
    storage.remove_folder(folder)

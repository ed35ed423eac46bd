"""Nights on a tiny shop, each in a process forked when all is imported: seconds, not half a minute."""

import os
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import Any

from topkin.artifacts import manifest, runs, storage
from topkin.config.load import load_settings
from topkin.config.sections import Settings
from topkin.ending import signals
from topkin.errors import TopkinError
from topkin.gates.judge import Judgement
from topkin.pipelines import run as nightly
from topkin.pipelines.cli import logs
from topkin.pipelines.engine import registry
from topkin.pipelines.engine.job import Job
from topkin.pipelines.engine.stage import Stage, StageReads
from topkin.pipelines.run import run_all
from topkin.synthetic.shop import Shop

Night = Callable[[datetime, float], object]
"""Makes and publishes what there is as of a date, waiting so many seconds for others."""

SETS = (
    *("train.epochs=0", "train.svd_dim=8", "train.advanced.svd_rank=8", "train.next_item_dim=4", "run.parts=1"),
    *("recommend.k=5", "similar.users=3", "evaluate.bootstrap=10", "publish.must_beat=[]"),
)
_STAGES = {name: registry.stage(name) for name in registry.ORDER}
HEAVY = ("tensorflow", "keras", "apache_beam", "topkin.models.training.fit", "topkin.transforms.evaluate")


def tiny_shop(folder: Path, keep: int) -> tuple[Night, str, datetime]:
    """A shop on the disk: a night on it, its output folder and the first date."""
    logs.silence()
    for module in (*HEAVY, *(f"topkin.pipelines.{name}" for name in registry.ORDER)):
        import_module(module)
    shop, out = Shop(users=60, items=40, purchases=800, seed=5), str(folder / "out")
    shop.write(str(folder / "shop"))
    config = folder / "topkin.toml"
    config.write_text(shop.config_toml("shop"))

    def night(as_of: datetime, wait: float) -> runs.Run:
        settings = load_settings(config, [*SETS, f"run.output='{out}'", f"run.keep={keep}", f"run.wait={wait}"], env={})
        return run_all(settings, as_of=as_of)

    return night, out, shop.as_of


def light_stage(name: str, kind: str = "purchases") -> Stage:
    """A stage in its place and order that writes one file, and some scratch before."""

    def work(job: Job[Any]) -> dict[str, Any]:
        storage.write_bytes(b"half", storage.join(job.scratch, "half"))
        counts = {"sources": {"purchases": {"rows": 9}}, "events": 9, "users": 3, "items": 3}
        storage.write_json(counts, storage.join(job.out, "statistics.json"))
        return {"rows": 1}

    needs = registry.ORDER[: registry.ORDER.index(name)][-1:]
    how = {"needs": lambda settings: needs, "reads": lambda settings: StageReads(), "earlier": lambda settings: ()}
    return replace(_STAGES[name], sections=("run",), work=work, **how)


def publish_ungated(run: runs.Run, settings: Settings, *, anyway: str | None, older: bool) -> Judgement:
    """Move the pointer to a run of light stages, which have nothing that a gate could ask."""
    runs.publish_run(run, older=older)
    return Judgement(gates=[], figures={}, live={}, common={})


def light_night(out: str, keep: int) -> Night:
    """A night of light stages, once ``registry.stage`` is :func:`light_stage`."""

    def night(as_of: datetime, wait: float) -> runs.Run:
        run = {"output": out, "keep": keep, "wait": wait}
        return run_all(Settings.model_validate({"purchases": {"path": "x"}, "run": run}), as_of=as_of)

    return night


def light_shop(folder: Path, keep: int) -> tuple[Night, str, datetime]:
    """As :func:`tiny_shop` without a shop: the engine, the pointer and the collection are real, the work is not."""
    registry.stage = light_stage
    nightly.publish_run = publish_ungated
    return light_night(str(folder / "out"), keep), str(folder / "out"), datetime(2024, 5, 1)


def forked(work: Callable[[], object], *, by_signals: bool = False) -> int:
    """Start some work in a process of its own, which exits with 0, or with the code of topkin's error; its number.

    Args:
        by_signals: it takes SIGTERM as a command does, and says nothing of it.
    """
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        with signals.by_signals() if by_signals else nullcontext():
            try:
                work()
                code = 0
            except BaseException as e:
                if not signals.asked() and not isinstance(e, TopkinError):
                    raise
                code = signals.cause()[1] if signals.asked() else e.exit_code
            if signals.asked():  # as the command line ends
                signals.leave("", code)
    except signals.Stopped:
        code = signals.cause()[1]  # it came after the work, or on its way out
    except BaseException:  # noqa: BLE001 - the last place of a process
        traceback.print_exc()
    finally:
        os._exit(code)


def ended(pid: int) -> tuple[int, int]:
    """Wait for a process: its exit code, minus the signal that killed it; and its peak memory in bytes."""
    _, status, usage = os.wait4(pid, 0)
    return os.waitstatus_to_exitcode(status), usage.ru_maxrss * 1024


@dataclass
class Reads:
    """What readers saw while they read the live version, every file by its hash, over and over."""

    reads: int = 0
    torn: int = 0


@contextmanager
def reading(root: str, folder: Path, how_many: int = 2) -> Iterator[Reads]:
    """Readers in processes of their own while something is done; their count is there at the end."""
    seen, stop = Reads(), folder / "stop"
    stop.unlink(missing_ok=True)
    pids = [forked(lambda n=n: _read(root, stop, folder / f"reads-{n}")) for n in range(how_many)]
    try:
        yield seen
    finally:
        stop.touch()
        codes = [ended(pid)[0] for pid in pids]
        if any(codes):
            raise RuntimeError(f"readers ended with codes {codes}")
        for number in range(how_many):
            reads, torn = (folder / f"reads-{number}").read_text().split()
            seen.reads, seen.torn = seen.reads + int(reads), seen.torn + int(torn)


def _read(root: str, stop: Path, result: Path) -> None:
    reads = torn = 0
    while not stop.exists():
        try:
            run = runs.published(root)
            for path in () if run is None else run.folders.values():
                manifest.verify(path)
            reads += run is not None
        except Exception:  # noqa: BLE001 - whatever a reader may see
            traceback.print_exc()
            torn += 1
        time.sleep(0.03)
    result.write_text(f"{reads} {torn}")

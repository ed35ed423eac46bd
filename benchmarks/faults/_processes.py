"""Nights on a tiny shop, each in a process forked when all is imported: seconds, not half a minute."""

import os
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from importlib import import_module
from pathlib import Path

from topkin.artifacts import manifest, runs
from topkin.config.load import load_settings
from topkin.errors import TopkinError
from topkin.pipelines.cli import logs
from topkin.pipelines.engine import registry
from topkin.pipelines.run import run_all
from topkin.synthetic.shop import Shop

Night = Callable[[datetime, float], object]
"""Makes and publishes what there is as of a date, waiting so many seconds for others."""

SETS = (
    *("train.epochs=0", "train.svd_dim=8", "train.advanced.svd_rank=8", "train.next_item_dim=4", "run.parts=1"),
    *("recommend.k=5", "similar.users=3", "evaluate.bootstrap=10", "publish.must_beat=[]"),
)
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


def forked(work: Callable[[], object]) -> int:
    """Start some work in a process of its own, which exits with 0, or with the code of topkin's error; its number."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        work()
        code = 0
    except TopkinError as e:
        code = e.exit_code
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
        for number, pid in enumerate(pids):
            ended(pid)
            reads, torn = (folder / f"reads-{number}").read_text().split()
            seen.reads, seen.torn = seen.reads + int(reads), seen.torn + int(torn)


def _read(root: str, stop: Path, told: Path) -> None:
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
    told.write_text(f"{reads} {torn}")

"""Many at once, kill -9 and SIGTERM: who publishes, who waits, who is told, and what readers see meanwhile.

``python -m benchmarks.faults.publishers`` lets 20 processes publish at once, 6 make one date and 6 different dates, and
ends nights by SIGKILL and by SIGTERM, at random times and at each step that can be seen in the folder, from outside.
After each the same night is made again. It fails where a reader sees anything torn, a history loses a run, a night does
not end or leaves a folder behind.
"""

import argparse
import glob
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from benchmarks.faults._processes import Night, Reads, ended, forked, light_shop, reading, tiny_shop
from topkin.artifacts import lock, manifest, runs, storage
from topkin.errors import BusyError
from topkin.pipelines.engine import registry

AT_ONCE, OF_DATES = 20, 6
WAIT = 3600.0
Step = Callable[[Path, set[Path]], bool]
"""Whether a night has got to a step: its output folder, and what was there before it."""


@dataclass
class Outcome:
    """What came of one kind of fault: a row of the table."""

    what: str
    tried: int
    outcome: str
    reads: Reads = field(default_factory=Reads)
    wrong: list[str] = field(default_factory=list)


def publishers(folder: Path) -> Outcome:
    """20 processes publish 20 runs at once, without the lock: only the swap of the pointer keeps them apart."""
    root, names = str(folder), [f"2024-05-{n + 1:02d}-r" for n in range(AT_ONCE)]
    for number, name in enumerate(names):
        run = runs.Run(root, name, datetime(2024, 5, number + 1))
        storage.write_bytes(name.encode() * 1000, f"{run.path}/prepared/part.bin")
        manifest.seal(f"{run.path}/prepared", stage="prepare", key=name, summary={})
        runs.record_stage(run, "prepare", {"folder": f"runs/{name}/prepared"}, {})
    runs.publish_run(runs.read_run(root, names[0]))
    with reading(root, folder) as reads:
        go = time.time() + 0.5
        pids = [forked(lambda name=name: _publish_at(go, root, name)) for name in names[1:]]
        codes = Counter(ended(pid)[0] for pid in pids)
    current = runs.pointer(root) or {}
    times = Counter([*current["history"], current["run_id"]])
    wrong = [f"{name} is in the history {times[name]} times" for name in names if times[name] != 1]
    wrong += [] if codes == {0: AT_ONCE - 1} else [f"codes {dict(codes)}"]
    return Outcome("publishers at once", AT_ONCE, "each in the history once", reads, wrong)


def _publish_at(go: float, root: str, name: str) -> None:
    time.sleep(max(0.0, go - time.time()))
    runs.publish_run(runs.read_run(root, name), older=True)


def at_once(night: Night, root: str, folder: Path, dates: Sequence[datetime], wait: float) -> Outcome:
    """Nights of some dates at once; each is done, or told that another is at work."""
    with reading(root, folder) as reads:
        pids = [forked(lambda date=date: night(date, wait)) for date in random.Random(0).sample(dates, len(dates))]
        codes = Counter(ended(pid)[0] for pid in pids)
    live = runs.published(root)
    done, refused = codes.pop(0, 0), codes.pop(BusyError.exit_code, 0)
    wrong = [f"ended with code {code}: {n}" for code, n in codes.items()]
    wrong += _left_over(root)
    if wait and live is not None and live.as_of != max(dates):
        wrong.append(f"live is {live.run_id}")
    if wait and done < len(dates):
        wrong.append(f"{len(dates) - done} did not wait")
    days = "one date" if len(set(dates)) == 1 else "different dates"
    what = f"nights of {days} at once, {'waiting' if wait else 'not waiting'}"
    return Outcome(what, len(dates), f"{done} done, {refused} told who is at work", reads, wrong)


def steps(kind: str = "purchases") -> Iterator[tuple[str, Step]]:
    """The steps of a night that can be seen in its output folder."""
    yield "lock taken", lambda out, before: (out / lock.NAME).exists()
    for name in registry.ORDERS[kind]:
        folder = registry.stage(name, kind).folder
        yield f"{name} begun", lambda out, before, f=folder: _new(out, before, f"runs/*/.{f}-*")
        yield f"{name} sealed", lambda out, before, f=folder: _new(out, before, f"runs/*/.{f}-*/{manifest.NAME}")
        yield f"{name} in place", lambda out, before, f=folder: _new(out, before, f"runs/*/{f}/{manifest.NAME}")
    yield (
        "published",
        lambda out, before: out / "runs" / (runs.pointer(str(out)) or {"run_id": "."})["run_id"] not in before,
    )
    yield "collecting", lambda out, before: _new(out, before, "runs/*/deleted.json")


def _new(out: Path, before: set[Path], pattern: str) -> bool:
    return any(Path(path) not in before for path in glob.glob(f"{out}/{pattern}"))  # folders may go while it looks


def killed(
    night: Night,
    root: str,
    folder: Path,
    first: datetime,
    at: Sequence[tuple[str, Step | None]],
    seed: int = 0,
    by: signal.Signals = signal.SIGKILL,
) -> Outcome:
    """Nights of new dates killed at steps, or at random times; each is made again, with readers all the while.

    By SIGTERM a night has to end as asked, or to be done, or never to have begun, and to leave nothing half made.
    """
    out, draw, wrong, missed = Path(root), random.Random(seed), list[str](), 0
    gently = by == signal.SIGTERM
    began = time.monotonic()
    if code := ended(forked(lambda: night(first, 0)))[0]:
        wrong.append(f"the first night ended with {code}")
    usual = time.monotonic() - began
    with reading(root, folder) as reads:
        for number, (name, step) in enumerate(at):
            date = first + timedelta(hours=number + 1)
            before = set(out.glob("runs/**/*"))
            pid = forked(lambda date=date: night(date, 0), by_signals=gently)
            until = time.monotonic() + (50 * usual if step else draw.uniform(0, 1.1 * usual))
            while time.monotonic() < until and not (step and step(out, before)) and not _over(pid):
                time.sleep(0.004)
            missed += _over(pid)
            os.kill(pid, by)
            code = ended(pid)[0]
            if gently:
                wrong += [] if code in (0, 128 + by, -by) else [f"{by.name} {name} ended with {code}"]
                wrong += [f"{by.name} {name}: {left}" for left in _left_over(root, but=".scratch")]
            if code := ended(forked(lambda date=date: night(date, 0)))[0]:
                wrong.append(f"killed {name}, the night after it ended with {code}")
            live = runs.published(root)
            if live is None or live.as_of != date:
                wrong.append(f"killed {name}, live is {live and live.run_id}")
            wrong += [f"killed {name}: {left}" for left in _left_over(root)]
    outcome = f"the next one finished{f'; {missed} had ended before' if missed else ''}"
    when = "each named step" if any(step for _, step in at) else "random times"
    return Outcome(f"{by.name} at {when}", len(at), outcome, reads, wrong)


def _over(pid: int) -> bool:
    """Whether a child has ended, and waits to be waited for."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _left_over(root: str, but: str = "/") -> list[str]:
    """Hidden folders of attempts and of scratch that are left, but those whose name begins so."""
    folders = (path for path in Path(root).glob("runs/*/.*") if path.is_dir())
    return [f"left over: {path}" for path in folders if not path.name.startswith(but)]


def table(outcomes: Sequence[Outcome]) -> str:
    """The outcomes as a table of Markdown."""
    lines = ["| what | tried | came of it | reads meanwhile | torn | wrong |", "|---|---:|---|---:|---:|---:|"]
    lines += [
        f"| {o.what} | {o.tried} | {o.outcome} | {o.reads.reads:,} | {o.reads.torn} | {len(o.wrong)} |"
        for o in outcomes
    ]
    return "\n".join(lines)


def main() -> int:
    """Try all of it on a tiny shop; prints the table, and what is wrong. Returns 1 where anything is."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--kills", type=int, default=200, help="at random times")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--light", action="store_true", help="stages of one file, in place of those of a tiny shop")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "twenty").mkdir()
        night, root, first = (light_shop if given.light else tiny_shop)(folder, keep=3)
        outcomes = [publishers(folder / "twenty")]
        for number, by in enumerate((signal.SIGKILL, signal.SIGTERM)):
            day, at_random = first + timedelta(days=60 * number), [("at random times", None)] * given.kills
            outcomes.append(killed(night, root, folder, day, at_random, given.seed, by))
            outcomes.append(killed(night, root, folder, day + timedelta(days=30), list(steps()), by=by))
        last = first + timedelta(days=120)
        dates = [last + timedelta(days=n) for n in range(2 * OF_DATES)]
        outcomes.append(at_once(night, root, folder, [dates[0]] * OF_DATES, WAIT))
        outcomes.append(at_once(night, root, folder, [dates[1]] * OF_DATES, 0))
        outcomes.append(at_once(night, root, folder, dates[2 : 2 + OF_DATES], WAIT))
    print(table(outcomes))
    wrong = [f"{outcome.what}: {text}" for outcome in outcomes for text in outcome.wrong]
    wrong += [f"{outcome.what}: {outcome.reads.torn} torn reads" for outcome in outcomes if outcome.reads.torn]
    print("\n".join(wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

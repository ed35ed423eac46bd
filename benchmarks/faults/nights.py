"""Garbage nights and honest ones over a growing shop: which of them the gates refuse, and why.

``python -m benchmarks.faults.nights`` publishes one good night and tries each garbage night after it, then publishes
30 honest nights, one after the other. It fails where garbage is published, or refused for no right reason, or where an
honest night is refused.
"""

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from benchmarks.faults._garbage import NIGHTS, PREPARE, Garbage
from benchmarks.faults._growing_shop import GrowingShop
from topkin.artifacts import runs, storage
from topkin.errors import InputError, QualityGateError
from topkin.gates.gate import REFUSED
from topkin.gates.judge import judge
from topkin.pipelines import publish
from topkin.pipelines.engine import stages
from topkin.pipelines.engine.registry import ORDERS
from topkin.pipelines.run import run_all

GOOD = 310
"""The day of the good night; the garbage comes the day after it, and the honest nights from the day after it on."""
HONEST = 30


@dataclass(frozen=True)
class Outcome:
    """What became of a night: whether it was published, the gates that refused it, and whether that is right."""

    name: str
    published: bool
    reasons: Sequence[str]
    right: bool


class Nights:
    """One good published night in a folder, after which others are tried."""

    def __init__(self, folder: Path, shop: GrowingShop | None = None) -> None:
        self.shop, self.folder, self.root = shop or GrowingShop(), folder, folder / "topkin-out"
        self.shop.write(self.shop.files(GOOD), folder)
        self.good = run_all(self.shop.settings(folder), as_of=self.shop.day(GOOD))

    @cached_property
    def unpublished(self) -> runs.Run:
        """The honest night after the good one, finished and not published."""
        self.shop.write(self.shop.files(GOOD + 1), self.folder)
        return run_all(self.shop.settings(self.folder), as_of=self.shop.day(GOOD + 1), publish=False)

    def garbage(self, night: Garbage) -> Outcome:
        """Try a garbage night as the one after the good one; what is live stays."""
        pointer = self.root / runs.POINTER
        before = pointer.read_bytes()
        reasons: list[str] = []
        try:
            if night.damage is None:
                self.shop.write(night.files(self.shop.files(GOOD + 1)), self.folder)
                settings = self.shop.settings(self.folder, *night.sets)
                run_all(settings, as_of=self.shop.day(GOOD + 1 + night.days))
            else:
                run = self._copy(self.unpublished)
                night.damage(run)
                run = runs.read_run(run.root, run.run_id)
                settings = self.shop.settings(self.folder)
                reasons = [gate.name for gate in judge(settings, run.folders, self.good.folders).of(REFUSED)]
                publish.publish(run, settings)
            is_published = True
        except InputError:
            is_published, reasons = False, [PREPARE]
        except QualityGateError:
            is_published = False
            reasons = reasons or self._refused()
        pointer.write_bytes(before)
        right = not is_published and bool({*reasons} & {*night.gates})
        return Outcome(night.name, is_published, reasons, right)

    def by_data(self, night: Garbage) -> Outcome:
        """Judge a night by its prepared tables alone, with the good night's lists and vectors: no training."""
        self.shop.write(night.files(self.shop.files(GOOD + 1)), self.folder)
        settings, as_of = self.shop.settings(self.folder, *night.sets), self.shop.day(GOOD + 1 + night.days)
        try:
            run = stages.run_stages(settings, as_of=as_of, only="prepare")
        except InputError:
            return Outcome(night.name, False, [PREPARE], PREPARE in night.gates)
        judged = judge(settings, {**self.good.folders, "prepare": run.folder("prepare")}, self.good.folders)
        reasons = [gate.name for gate in judged.of(REFUSED)]
        return Outcome(night.name, not reasons, reasons, bool({*reasons} & {*night.gates}))

    def honest(self, day: int) -> Outcome:
        """Do and publish an honest night."""
        self.shop.write(self.shop.files(day), self.folder)
        settings, as_of = self.shop.settings(self.folder), self.shop.day(day)
        try:
            run_all(settings, as_of=as_of)
        except QualityGateError:
            return Outcome(f"{as_of:%a %d %b}", False, self._refused(), False)
        return Outcome(f"{as_of:%a %d %b}", True, [], True)

    def _refused(self) -> list[str]:
        """The gates that refused the newest run, by its report."""
        newest = max((self.root / "runs").glob("*/report/gates.json"), key=lambda path: path.stat().st_mtime_ns)
        return [gate["name"] for gate in storage.read_json(str(newest))["gates"] if gate["verdict"] == REFUSED]

    def _copy(self, run: runs.Run) -> runs.Run:
        """The same run in folders of its own, which may be damaged."""
        name = f"{run.run_id}+damaged-{time.monotonic_ns()}"
        copied = runs.Run(run.root, name, run.as_of)
        for stage in ORDERS["purchases"]:
            place = storage.join("runs", name, Path(run.folder(stage)).name)
            shutil.copytree(run.folder(stage), storage.join(run.root, place))
            copied = runs.record_stage(copied, stage, {"key": "", "folder": place, "seconds": 0.0, "reused": True}, {})
        return copied


def table(outcomes: Sequence[Outcome]) -> str:
    """The outcomes as a table in Markdown."""
    rows = ["| night | outcome | gates |", "|---|---|---|"]
    for one in outcomes:
        verdict = "published" if one.published else "refused"
        rows.append(f"| {one.name} | {verdict}{'' if one.right else ' (wrong)'} | {', '.join(one.reasons)} |")
    return "\n".join(rows)


def main(argv: Sequence[str] | None = None) -> int:
    """Try all nights, print the tables, and tell whether all came out right."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", help="words of the names of garbage nights to try; no honest ones then")
    options = parser.parse_args(argv)
    began, outcomes = time.process_time(), []
    with tempfile.TemporaryDirectory() as folder:
        nights = Nights(Path(folder))
        for night in NIGHTS:
            if options.only is None or options.only in night.name:
                outcomes.append(nights.garbage(night))
                print(table(outcomes[-1:]).splitlines()[-1], file=sys.stderr, flush=True)
        honest = [] if options.only is not None else range(GOOD + 1, GOOD + 1 + HONEST)
        for day in honest:
            outcomes.append(nights.honest(day))
            print(table(outcomes[-1:]).splitlines()[-1], file=sys.stderr, flush=True)
    print(table(outcomes))
    wrong = [one.name for one in outcomes if not one.right]
    seconds = time.process_time() - began
    print(f"\n{len(outcomes)} nights, {len(wrong)} of them wrong; {seconds:.0f} s of a processor")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

"""How the benchmarks time: all rows in turn, so that a slow moment of the machine hits each of them."""

import statistics
import time
from collections.abc import Callable, Mapping


class Turns:
    """The answers of the last turn, and the seconds of each counted one; the first turn warms up, if any does."""

    def __init__(self, rows: Mapping[str, Callable[[], object]], repeats: int, *, warm_up: bool = True) -> None:
        seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in rows}
        self.answers: dict[str, object] = {}
        for repeat in range(repeats + warm_up):
            for name, run in rows.items():
                start = time.perf_counter(), time.process_time()
                self.answers[name] = run()
                if repeat >= warm_up:
                    seconds[name].append((time.perf_counter() - start[0], time.process_time() - start[1]))
        self.median = {name: statistics.median(wall for wall, _ in times) for name, times in seconds.items()}
        self.best = {name: min(wall for wall, _ in times) for name, times in seconds.items()}
        self.cpu = {name: statistics.median(cpu for _, cpu in times) for name, times in seconds.items()}

    def tell_seconds(self) -> None:
        """A line for each row, the fastest first: seconds, and those of all processors that this process used."""
        for name, value in sorted(self.median.items(), key=lambda row: row[1]):
            print(f"  {name:32s} {value:7.3f} s   best {self.best[name]:7.3f}   processors {self.cpu[name]:7.3f} s")

    def tell_ratio(self, ours: str, peer: str, least: float, same: str, aim: float | None = None) -> None:
        """How many times the peer takes our time, the bars, what was compared of the answers, and ok or below.

        Beside it the same of processors' seconds, which a busy machine changes less; not of a peer whose work
        another process does.
        """
        ratio = self.median[peer] / self.median[ours]
        bars = f"{least:5.2f} x" + ("" if aim is None else f" {aim:5.2f} x")
        here = self.cpu[peer] > 0.1 * self.median[peer]
        cpu = f"{self.cpu[peer] / self.cpu[ours]:6.2f} x" if here else 8 * " "
        verdict = "ok" if ratio >= least else "below"
        print(f"  {peer:32s} {ratio:6.2f} x (processors {cpu}) {bars}  {same:10s} {verdict}")

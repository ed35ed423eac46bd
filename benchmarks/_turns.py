"""How the benchmarks time: all rows in turn, so that a slow moment of the machine hits each of them."""

import statistics
import time
from collections.abc import Callable, Mapping


class Turns:
    """The answers of the last turn, and the seconds of each counted one; the first turn warms up."""

    def __init__(self, rows: Mapping[str, Callable[[], object]], repeats: int) -> None:
        seconds: dict[str, list[float]] = {name: [] for name in rows}
        self.answers: dict[str, object] = {}
        for repeat in range(repeats + 1):
            for name, run in rows.items():
                start = time.perf_counter()
                self.answers[name] = run()
                if repeat:
                    seconds[name].append(time.perf_counter() - start)
        self.median = {name: statistics.median(times) for name, times in seconds.items()}
        self.best = {name: min(times) for name, times in seconds.items()}

    def tell_seconds(self) -> None:
        """A line for each row, the fastest first."""
        for name, value in sorted(self.median.items(), key=lambda row: row[1]):
            print(f"  {name:32s} {value:7.3f} s   best {self.best[name]:7.3f}")

    def tell_ratio(self, ours: str, peer: str, least: float, same: str) -> None:
        """How many times the peer takes our time, the bar, what was compared of the answers, and ok or below."""
        ratio = self.median[peer] / self.median[ours]
        print(f"  {peer:32s} {ratio:6.2f} x {least:5.1f} x  {same:10s} {'ok' if ratio >= least else 'below'}")

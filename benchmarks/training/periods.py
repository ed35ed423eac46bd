"""How many periods of validation should choose the computed blocks' weights: what they choose, judged by the next.

``python -m benchmarks.training.periods --config examples/online_retail.toml --as-of 2011-10-09 2011-09-25``. Each
period is judged by what up to five periods before it choose, nothing of it seen: NDCG@20 of new items, less that by
three periods, with the standard error of the difference. Needs the data that the configuration names; nothing is
trained.
"""

import argparse
import tempfile
from datetime import datetime
from typing import Any

import numpy as np

from topkin.config.load import load_settings

MOST, USUAL = 5, 3
CUTS = 9  # periods, as far back as something is left to learn from
LEFT = 0.15  # of the purchases, so far back


def periods_of(settings: Any, as_of: datetime) -> Any:
    """The periods before a date, with the context that they are of."""
    from topkin.artifacts import storage
    from topkin.models.data.histories import PreparedHistories
    from topkin.models.training import selection
    from topkin.models.training.context import TrainingContext
    from topkin.pipelines.engine import stages

    prepared = stages.run_stages(settings, as_of=as_of, only="prepare").folder("prepare")
    catalogue = storage.read_parquet(storage.join(prepared, "catalogue.parquet"))
    histories = PreparedHistories(storage.join(prepared, "histories"), catalogue["item_id"], as_of)
    selection.LEFT_EARLIER = LEFT
    context = TrainingContext.of(settings, validation_cuts=CUTS)
    return context, selection.validation_periods(context, histories, catalogue)


def judge(settings: Any, as_of: datetime) -> dict[int, list[float]]:
    """Print and return the differences to USUAL periods, by the number of periods that chose."""
    from topkin.models.training.block_kinds import start, trials
    from topkin.models.training.validation import choose, mean_and_error

    context, over = periods_of(settings, as_of)
    searches, differences = over.searches, {}
    print(f"as of {as_of:%Y-%m-%d}, periods of {over.days:.3g} days; users: {[s.cut.known.n_users for s in searches]}")
    for number, judged in enumerate(searches[:-1]):
        values = {}
        for many in range(1, MOST + 1):
            chosen, _ = choose(searches[number + 1 : number + 1 + many], start(context.train), trials(context))
            values[many] = judged.values(chosen)
        for many, own in values.items():
            mean, error = mean_and_error([own - values[USUAL]])
            differences.setdefault(many, []).append(mean)
            last = f"period {number + 1} from the end, {min(many, len(searches) - number - 1)} chose"
            print(f"  {last}: {own.mean():.4f}, {mean:+.4f} ({error:.4f})")
    return differences


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--config", required=True)
    parser.add_argument("--as-of", nargs="+", required=True, type=datetime.fromisoformat)
    args = parser.parse_args()
    every: dict[int, list[float]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        settings = load_settings(args.config, ["train.epochs=0", f"run.output={scratch}"])
        for as_of in args.as_of:
            for many, differences in judge(settings, as_of).items():
                every.setdefault(many, []).extend(differences)
    print("periods that chose: mean difference, least, most")
    for many, all_ in every.items():
        print(f"  {many}: {np.mean(all_):+.4f}  {min(all_):+.4f}  {max(all_):+.4f}")


if __name__ == "__main__":
    main()

from pathlib import Path

import pytest

pytest.importorskip("tensorflow")

from topkin.artifacts import storage
from topkin.config.load import load_settings
from topkin.pipelines import tune
from topkin.synthetic.shop import Shop

SETS = ["train.epochs=1", "train.dim=8", "train.svd_dim=8", "train.advanced.svd_rank=16", "run.parts=2"]


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> tuple[str, Shop]:
    root = tmp_path_factory.mktemp("tune")
    generated = Shop(users=150, items=60, purchases=3_000, seed=1)
    generated.write(str(root / "shop"))
    (root / "topkin.toml").write_text(generated.config_toml("shop"))
    return str(root / "topkin.toml"), generated


@pytest.mark.slow
def test_a_search_goes_on_with_the_trials_it_has_and_writes_the_best(shop):
    config, generated = shop
    settings = load_settings(config, sets=SETS)
    folder, first = tune.search(settings, generated.as_of, trials=2, keys=["temperature"])
    reported = []
    again, three = tune.search(settings, generated.as_of, trials=3, keys=["temperature"], on_trial=reported.append)
    assert again == folder
    assert three[:2] == first  # seconds too: they were not done again
    assert reported == three == storage.read_json(f"{folder}/trials.json")
    assert three[0]["changes"] == {}
    best = max(three, key=lambda trial: (trial["value"], -trial["number"]))
    written = Path(folder, "best.toml").read_text()
    lines = [f"{k} = {v}" for k, v in best["changes"].items()]
    assert written == "\n".join(["[train]", *(["[train.advanced]", *lines] if lines else [])]) + "\n"
    chosen = load_settings(config, sets=[*SETS, *(f"train.advanced.{k}={v}" for k, v in best["changes"].items())])
    assert tune._trial(9, {}, chosen, generated.as_of, _prepared(folder))["value"] == best["value"]


def _prepared(folder: str) -> str:
    (prepared,) = (Path(folder).parent.parent / "runs").glob("*/prepared")
    return str(prepared)

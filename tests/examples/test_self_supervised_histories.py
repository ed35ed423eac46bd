"""The example of purchase histories reads the shop as loops do, and what it learns tells taste."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from topkin.synthetic.shop import Shop

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def example() -> Any:
    path = ROOT / "examples" / "self_supervised_histories.py"
    spec = importlib.util.spec_from_file_location("self_supervised_histories", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_histories_are_the_latest_distinct_items_before_the_cut(example: Any) -> None:
    shop = Shop(users=300, items=80, purchases=6_000, seed=4)
    customers = example.customers_of(shop, 9)
    cut, expected, tastes = (shop.as_of - shop.start).days, [], []
    for block in range(shop.blocks):
        people, bought = shop.bought(block)
        for person in range(len(people)):
            own = [(d, i) for r, d, i in zip(bought.row, bought.day, bought.item, strict=True) if r == person]
            latest = {int(item): day for day, item in sorted(own) if day < cut}  # baskets: by item
            if len(latest) >= example.LEAST:
                items = [item + 1 for _, item in sorted((day, item) for item, day in latest.items())][-9:]
                expected.append(items + [0] * (9 - len(items)))
                tastes.append(people.taste[person] / np.linalg.norm(people.taste[person]))
    assert len(expected) < 300
    np.testing.assert_array_equal(customers.histories, expected)
    np.testing.assert_allclose(customers.tastes, tastes, atol=1e-6)


def test_the_probe_is_the_mean_over_neighbours(example: Any) -> None:
    tastes = np.array([[1, 0], [0, 1], [0.6, 0.8]], np.float32)
    known = example.Customers(np.zeros((3, 1), int), tastes, np.array([[1, 2], [3, 4], [2, 2]]))
    asked = example.Customers(np.zeros((1, 1), int), tastes[:1], np.array([[2, 9]]))
    assert example.probe(known, asked, np.array([[1, 2]])) == pytest.approx({"taste": 0.3, "favourite": 0.5})


@pytest.mark.parametrize(
    "method", ["simclr", *(pytest.param(m, marks=pytest.mark.slow) for m in ("byol", "swav", "vicreg"))]
)
def test_customers_never_trained_on_find_others_of_their_taste(
    example: Any, method: str, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = ["--users", "700", "--items", "300", "--purchases", "21000", "--dim", "32", "--batch-size", "64"]
    figures = example.main(["--method", method, *sizes, "--epochs", "12"])["found"]
    assert figures[method]["taste"] > figures["untrained"]["taste"] + 0.03
    assert figures["untrained"]["taste"] > figures["strangers"]["taste"] + 0.05
    assert figures["tastes themselves"]["taste"] > figures[method]["taste"]
    assert f"| {method} | {figures[method]['taste']:.3f} |" in capsys.readouterr().out

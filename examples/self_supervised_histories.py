"""Customers embedded by what they bought, learned from two crops of one history: do neighbours share a taste?

    python examples/self_supervised_histories.py --method simclr       or byol, swav, vicreg

The shop is generated, so that each customer's taste is known, to the probe alone. An encoder (item vectors, averaged)
learns that two crops of one history are one customer. Customers it never saw then look for their nearest among
those it was trained on; the probe is how alike their planted tastes are, and whether they have a favourite
category in common. Beside it: the items themselves as coordinates, an untrained encoder, and what could be
reached at all, the neighbours by taste.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from topkin.interactions import Interactions, concatenate
from topkin.linalg.cosine import unit_rows
from topkin.models import BYOL, HistoryCrops, SimCLR, StopAtCollapse, SwAV, VICReg, effective_rank
from topkin.models.ops import device
from topkin.models.self_supervised.base import SelfSupervised
from topkin.search.topk import top_k
from topkin.synthetic.shop import Shop

METHODS: dict[str, tuple[type[SelfSupervised], dict[str, Any]]] = {
    "simclr": (SimCLR, {"temperature": 0.2}),
    "byol": (BYOL, {"momentum": 0.97}),
    "swav": (SwAV, {"prototypes": 48}),
    "vicreg": (VICReg, {}),
}
LEAST = 6  # distinct items; of fewer there are no two crops


class Customers(NamedTuple):
    """histories: (n, length) int64, the items from 1 in time order, 0 behind them. tastes: (n, d), unit rows.
    favourites: (n, 2) category numbers."""

    histories: np.ndarray
    tastes: np.ndarray
    favourites: np.ndarray

    def take(self, rows: np.ndarray) -> "Customers":
        """Some of them."""
        return Customers(*(x[rows] for x in self))


def customers_of(shop: Shop, length: int) -> Customers:
    """The shop's customers with ``LEAST`` distinct items before the cut, the ``length`` latest of each."""
    cut, parts, people = (shop.as_of - shop.start).days, [], []
    for block in range(shop.blocks):
        here, bought = shop.bought(block)
        bought = bought.take(bought.day < cut)
        bought = bought.take(np.lexsort((bought.day, bought.row)))
        indptr = np.searchsorted(bought.row, np.arange(len(here) + 1))
        ages, ones = (cut - bought.day).astype(np.float32), np.ones(len(bought), np.float32)
        parts.append(Interactions(indptr, bought.item.astype(np.int32), ages, ones, shop.items))
        people.append(here)
    kept = concatenate(parts).distinct().latest(length)
    sizes = np.diff(kept.indptr)
    histories = np.zeros((len(sizes), length), np.int64)
    histories[np.arange(length) < sizes[:, None]] = kept.items + 1
    tastes, favourites = (np.concatenate([getattr(p, name) for p in people]) for name in ("taste", "favourites"))
    return Customers(histories, unit_rows(tastes), favourites).take(np.flatnonzero(sizes >= LEAST))


def encoder_of(items: int, length: int, dim: int) -> keras.Model:
    """The mean of the bought items' vectors: (n, length) int64 to (n, dim)."""
    inputs = keras.Input((length,), dtype="int64")
    x = keras.layers.Embedding(items + 1, dim, mask_zero=True)(inputs)
    return keras.Model(inputs, keras.layers.GlobalAveragePooling1D()(x), name="encoder")


def train(encoder: keras.Model, histories: np.ndarray, options: argparse.Namespace) -> dict[str, list[float]]:
    """Train the encoder; returns the logs of its epochs."""
    steps = len(histories) // options.batch_size * options.epochs
    if not steps:
        raise ValueError(
            f"a batch must fit the customers, got {options.batch_size} for {len(histories)}: lower --batch-size"
        )
    kind, settings = METHODS[options.method]
    model = kind(encoder, HistoryCrops(), **settings, **({"steps": steps} if kind is BYOL else {}))
    rate = keras.optimizers.schedules.CosineDecay(options.learning_rate, steps)
    model.compile(keras.optimizers.Adam(rate), jit_compile=False)
    whole = histories[: len(histories) // options.batch_size * options.batch_size]
    shown = {"batch_size": options.batch_size, "epochs": options.epochs, "verbose": 0}
    return model.fit(whole, **shown, callbacks=[StopAtCollapse()]).history


def baskets(histories: np.ndarray, items: int, *, inverse_popularity: np.ndarray | None = None) -> np.ndarray:
    """One coordinate an item, 1 where bought, or its inverse_popularity: (n, items) float32."""
    out = np.zeros((len(histories), items + 1), np.float32)
    np.put_along_axis(out, histories, 1.0, axis=1)
    return out[:, 1:] if inverse_popularity is None else out[:, 1:] * inverse_popularity


def probe(known: Customers, asked: Customers, nearest: np.ndarray) -> dict[str, float]:
    """Of the neighbours (n, k): the mean cosine of tastes, the share with a favourite category in common."""
    alike = np.einsum("nd,nkd->nk", asked.tastes, known.tastes[nearest])
    both = (asked.favourites[:, None, :, None] == known.favourites[nearest][:, :, None, :]).any(axis=(2, 3))
    return {"taste": float(alike.mean()), "favourite": float(both.mean())}


def main(argv: Sequence[str]) -> dict[str, Any]:
    """Train and measure; returns the figures."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--method", choices=sorted(METHODS), default="simclr")
    flags.add_argument("--users", type=int, default=6000)
    flags.add_argument("--items", type=int, default=2000)
    flags.add_argument("--purchases", type=int, default=180_000)
    flags.add_argument("--length", type=int, default=40, help="so many of a customer's latest items are read")
    flags.add_argument("--dim", type=int, default=64)
    flags.add_argument("--epochs", type=int, default=30)
    flags.add_argument("--batch-size", type=int, default=256)
    flags.add_argument("--learning-rate", type=float, default=5e-3)
    flags.add_argument("--k", type=int, default=10, help="neighbours of each customer")
    flags.add_argument("--seed", type=int, default=1)
    options = flags.parse_args(argv)

    keras.utils.set_random_seed(options.seed)
    device.set_up()
    began, cpu = time.perf_counter(), time.process_time()
    shop = Shop(users=options.users, items=options.items, purchases=options.purchases, seed=options.seed)
    everyone = customers_of(shop, options.length)
    order = np.random.default_rng(options.seed).permutation(len(everyone.histories))
    held = len(order) // 5
    known, asked = everyone.take(order[held:]), everyone.take(order[:held])

    encoder = encoder_of(options.items, options.length, options.dim)
    buyers = np.maximum(baskets(known.histories, options.items).sum(axis=0), 1)
    inverse_popularity = np.log(len(known.histories) / buyers).astype(np.float32)
    both = known, asked
    vectors = {
        "items": [baskets(part.histories, options.items) for part in both],
        "items by inverse_popularity": [
            baskets(part.histories, options.items, inverse_popularity=inverse_popularity) for part in both
        ],
        "untrained": [encoder.predict(part.histories, batch_size=1000, verbose=0) for part in both],
        "tastes themselves": [known.tastes, asked.tastes],
    }
    learning, learning_cpu = time.perf_counter(), time.process_time()
    logs = train(encoder, known.histories, options)
    learned = {
        "training_seconds": round(time.perf_counter() - learning, 1),
        "training_cpu_seconds": round(time.process_time() - learning_cpu, 1),
    }
    vectors[options.method] = [encoder.predict(part.histories, batch_size=1000, verbose=0) for part in both]
    result = {
        name: probe(known, asked, top_k(unit_rows(queries), unit_rows(index), options.k)[0])
        for name, (index, queries) in vectors.items()
    }
    strangers = np.random.default_rng(0).integers(len(known.histories), size=(len(asked.histories), options.k))
    result["strangers"] = probe(known, asked, strangers)

    print("| neighbours by | cosine of tastes | a favourite category in common |")
    print("|---|---|---|")
    for name, row in sorted(result.items(), key=lambda row: row[1]["taste"]):
        print(f"| {name} | {row['taste']:.3f} | {row['favourite']:.3f} |")
    figures = {
        "method": options.method,
        "found": result,
        "customers_trained_on": len(known.histories),
        "customers_asked": len(asked.histories),
        "epochs": options.epochs,
        "loss": logs["loss"][-1],
        "spread": logs["spread"][-1],
        "effective_rank": effective_rank(vectors[options.method][1]),
        **learned,
        "seconds": round(time.perf_counter() - began, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
    }
    print(json.dumps(figures))
    return figures


if __name__ == "__main__":
    main(sys.argv[1:])

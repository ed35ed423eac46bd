"""The losses as loops over plain floats, as their papers say them: the oracles of the conformance tests."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

LABELS = np.array([0, 1, 2, 0, 1, 2, 0, 1, 0, 3])
N, DIM, CLASSES = len(LABELS), 5, 4
DRAW = np.random.default_rng(7)
ROWS = DRAW.normal(size=(N, DIM)).round(2)
WEIGHTS = np.array([1, 0.5, 2, 0, 1, 1, 3, 1, 0.25, 1])
COUNTS = np.array([40, 5, 1, 0])


# The oracles: loops over plain floats, as the papers say them.
def cos(a: Any, b: Any) -> float:
    return float(a @ b / math.sqrt((a @ a) * (b @ b)))


def euclid(a: Any, b: Any) -> float:
    return math.sqrt(sum((p - q) ** 2 for p, q in zip(a, b, strict=True)))


def positives(y: Any, i: int) -> list[int]:
    return [j for j in range(len(y)) if j != i and y[j] == y[i]]


def negatives(y: Any, i: int) -> list[int]:
    return [j for j in range(len(y)) if y[j] != y[i]]


def mean(values: list[tuple[float, float]], non_zero: bool = False) -> float:
    """Of (loss, weight): weights multiply, and are not divided by."""
    count = sum(1 for loss, _ in values if loss > 0 or not non_zero)
    return sum(loss * weight for loss, weight in values) / max(count, 1)


def naive_contrastive(y: Any, x: Any, w: Any) -> float:
    near = [(euclid(x[i], x[j]) ** 2 / 2, w[i]) for i in range(N) for j in positives(y, i)]
    apart = [(max(4 - euclid(x[i], x[j]), 0) ** 2 / 2, w[i]) for i in range(N) for j in negatives(y, i)]
    return mean(near, True) + mean(apart, True)


def naive_contrastive_cosine(y: Any, x: Any, w: Any) -> float:
    near = [(max(0.9 - cos(x[i], x[j]), 0), w[i]) for i in range(N) for j in positives(y, i)]
    apart = [(max(cos(x[i], x[j]) - 0.1, 0), w[i]) for i in range(N) for j in negatives(y, i)]
    return mean(near) + mean(apart)


def naive_triplet(y: Any, x: Any, w: Any) -> float:
    return mean(
        [
            (max(euclid(x[i], x[p]) - euclid(x[i], x[n]) + 0.5, 0), w[i])
            for i in range(N)
            for p in positives(y, i)
            for n in negatives(y, i)
        ],
        True,
    )


def naive_soft_batch_hard(y: Any, x: Any, w: Any) -> float:
    values = []
    for i in range(N):
        if positives(y, i):
            p = max(euclid(x[i], x[j]) for j in positives(y, i))
            n = min(euclid(x[i], x[j]) for j in negatives(y, i))
            values.append((math.log1p(math.exp(p - n)), w[i]))
    return mean(values)


def naive_lifted(y: Any, x: Any, w: Any) -> float:
    values = []
    for i in range(N):
        for j in positives(y, i):
            crowd = sum(math.exp(1 - euclid(x[k], x[n])) for k in (i, j) for n in negatives(y, k))
            values.append((max(math.log(crowd) + euclid(x[i], x[j]), 0) ** 2 / 2, w[i]))
    return mean(values)


def naive_multi_similarity(y: Any, x: Any, w: Any) -> float:
    values = []
    for i in range(N):
        pull = sum(math.exp(-2 * (cos(x[i], x[j]) - 0.5)) for j in positives(y, i))
        push = sum(math.exp(20 * (cos(x[i], x[j]) - 0.5)) for j in negatives(y, i))
        values.append((math.log(1 + pull) / 2 + math.log(1 + push) / 20, w[i]))
    return mean(values)


def naive_circle(y: Any, x: Any, w: Any) -> float:
    values = []
    for i in range(N):
        total = 0.0
        for p in positives(y, i):
            for n in negatives(y, i):
                s_p, s_n = cos(x[i], x[p]), cos(x[i], x[n])
                push = max(s_n + 0.4, 0) * (s_n - 0.4)
                total += math.exp(10 * (push - max(1.4 - s_p, 0) * (s_p - 0.6)))
        values.append((math.log(1 + total), w[i]))
    return mean(values, True)


def naive_softmax_of_pairs(y: Any, x: Any, w: Any, similar: Callable[..., float], t: float) -> float:
    values = []
    for i in range(N):
        crowd = sum(math.exp(similar(x[i], x[n]) / t) for n in negatives(y, i))
        for p in positives(y, i):
            own = math.exp(similar(x[i], x[p]) / t)
            values.append((-math.log(own / (own + crowd)), w[i]))
    return mean(values)


def naive_ntxent(y: Any, x: Any, w: Any) -> float:
    return naive_softmax_of_pairs(y, x, w, cos, 0.2)


def naive_supcon(y: Any, x: Any, w: Any) -> float:
    anchors = []
    for i in range(N):
        crowd = sum(math.exp(cos(x[i], x[a]) / 0.2) for a in range(N) if a != i)
        own = [-math.log(math.exp(cos(x[i], x[p]) / 0.2) / crowd) for p in positives(y, i)]
        if own:
            anchors.append((sum(own) / len(own), w[i]))
    return mean(anchors)


def naive_npair(y: Any, x: Any, w: Any) -> float:
    lengths = sum(float(row @ row) for row in x) / N
    return naive_softmax_of_pairs(y, x, w, lambda a, b: float(a @ b), 1) + 0.01 * lengths


def naive_neighbours(y: Any, x: Any, w: Any) -> float:
    values = []
    for i in range(N):
        if positives(y, i):
            own = sum(math.exp(-(euclid(x[i], x[j]) ** 2) / 3) for j in positives(y, i))
            other = sum(math.exp(-(euclid(x[i], x[j]) ** 2) / 3) for j in negatives(y, i))
            values.append((-math.log(own / (own + other)), w[i]))
    return mean(values)


def naive_info_nce(y: Any, x: Any, w: Any) -> float:
    values = []
    for i in range(N):
        own, loss = math.exp(cos(x[i, 0], x[i, 1]) / 0.3), 0.0
        for a, b in ((0, 1), (1, 0)):
            loss -= math.log(own / (own + sum(math.exp(cos(x[i, a], x[j, b]) / 0.3) for j in negatives(y, i)))) / 2
        values.append((loss, w[i]))
    return mean(values)


def naive_sampled(y: Any, x: Any, w: Any) -> float:
    q = np.maximum(COUNTS, 0.5) / np.maximum(COUNTS, 0.5).sum()
    values = []
    for i in range(N):
        e = [math.exp(cos(x[i, 0], x[j, 1]) / 0.5 - math.log(N * q[y[j]])) for j in range(N)]
        values.append((-math.log(e[i] / (e[i] + sum(e[j] for j in negatives(y, i)))), w[i]))
    return mean(values)


def cross_entropy(logits: list[float], k: int) -> float:
    return math.log(sum(math.exp(v) for v in logits)) - logits[k]


def naive_cosface(y: Any, x: Any, w: Any, scale: float = 16) -> float:
    logits = [[scale * (x[i, c] - 0.35 * (c == y[i])) for c in range(CLASSES)] for i in range(N)]
    return mean([(cross_entropy(logits[i], y[i]), w[i]) for i in range(N)])


def naive_arcface(y: Any, x: Any, w: Any) -> float:
    values = []
    for i in range(N):
        row = [16 * float(v) for v in x[i]]
        angle = math.acos(x[i, y[i]])
        moved = math.cos(angle + 2) if angle <= math.pi - 2 else x[i, y[i]] - 2 * math.sin(2)
        row[y[i]] = 16 * moved
        values.append((cross_entropy(row, y[i]), w[i]))
    return mean(values)


def naive_proxy_anchor(y: Any, x: Any, w: Any) -> float:
    pull, push = [], []
    for c in range(CLASSES):
        own = [i for i in range(N) if y[i] == c and w[i] > 0]
        if own:
            pull.append(math.log(1 + sum(w[i] * math.exp(-8 * (x[i, c] - 0.1)) for i in own)))
        push.append(math.log(1 + sum(w[i] * math.exp(8 * (x[i, c] + 0.1)) for i in range(N) if y[i] != c)))
    return sum(pull) / len(pull) + sum(push) / CLASSES


def naive_proxy_nca(y: Any, x: Any, w: Any, plus: bool = False) -> float:
    values = []
    for i in range(N):
        near = [math.exp(-(2 - 2 * float(v)) / 0.5) for v in x[i]]
        crowd = sum(v for c, v in enumerate(near) if plus or c != y[i])
        values.append((-math.log(near[y[i]] / crowd), w[i]))
    return mean(values)


def naive_soft_triple(y: Any, x: Any, w: Any) -> float:
    logits = [[8 * (x[i, c, 0] - 0.1 * (c == y[i])) for c in range(CLASSES)] for i in range(N)]
    values = [(cross_entropy(logits[i], y[i]), w[i]) for i in range(N)]
    return mean(values) + 0.3 * float(x[..., 1].sum()) / (N * CLASSES)


def naive_center(y: Any, x: Any, w: Any) -> float:
    return mean([(cross_entropy(list(x[i, :, 0]), y[i]) + 0.05 / 2 * x[i, y[i], 1], w[i]) for i in range(N)])


def naive_ccl(y: Any, x: Any, w: Any) -> float:
    near, apart = [], []
    for i in range(N):
        near += [(1 - x[i, j], w[i]) for j in range(4) if y[i, j] == 1]
        others = [x[i, j] for j in range(4) if y[i, j] == 0]
        apart.append((3 * sum(max(s - 0.2, 0) for s in others) / len(others), w[i]))
    return mean(near) + mean(apart)


def naive_bpr(y: Any, x: Any, w: Any) -> float:
    pairs = [(i, p, n) for i in range(N) for p in range(4) for n in range(4) if y[i, p] == 1 and y[i, n] == 0]
    return mean([(-math.log(1 / (1 + math.exp(x[i, n] - x[i, p]))), w[i]) for i, p, n in pairs])


def naive_pairs(y: Any, x: Any, w: Any) -> float:
    return mean([(y[i] * x[i] ** 2 / 2 + (1 - y[i]) * max(2 - x[i], 0) ** 2 / 2, w[i]) for i in range(N)])

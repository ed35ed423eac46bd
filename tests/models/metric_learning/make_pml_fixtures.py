"""Compute the values of pytorch-metric-learning that our losses and miners are held against.

Not a test and not run by the tests, which read pml_fixtures.json. To make that file again, anywhere:

    python -m venv pml && pml/bin/pip install torch pytorch-metric-learning numpy
    pml/bin/python tests/models/metric_learning/make_pml_fixtures.py

All arrays are drawn from one seed and written beside the values, in float64.
"""

import json
import platform
from pathlib import Path

import numpy as np
import pytorch_metric_learning as pml
import torch
from pytorch_metric_learning import distances, losses, miners, reducers

SEED, DIM = 20240, 6
PLAIN = {"normalize_embeddings": False}
LABELS = [0, 1, 2, 0, 1, 2, 0, 1, 0, 3, 1, 3]


def arrays() -> dict[str, np.ndarray]:
    draw = np.random.default_rng(SEED)
    return {
        "embeddings": draw.normal(size=(len(LABELS), DIM)),
        "labels": np.array(LABELS),
        "references": draw.normal(size=(9, DIM)),
        "ref_labels": np.array([0, 1, 2, 3, 0, 1, 2, 3, 0]),
        "proxies": draw.normal(size=(4, DIM)),
    }


def euclidean(power: int = 1) -> distances.LpDistance:
    return distances.LpDistance(p=2, power=power, **PLAIN)


def pair_losses() -> dict[str, torch.nn.Module]:
    cosine, inner = distances.CosineSimilarity(), distances.DotProductSimilarity(**PLAIN)
    return {
        "contrastive": losses.ContrastiveLoss(0.0, 1.0, distance=euclidean()),
        "contrastive wide": losses.ContrastiveLoss(0.3, 4.0, distance=euclidean()),
        "contrastive cosine": losses.ContrastiveLoss(0.9, 0.1, distance=cosine),
        "contrastive per anchor": losses.ContrastiveLoss(
            0.5, 4.0, distance=euclidean(), reducer=reducers.PerAnchorReducer()
        ),
        "contrastive mean": losses.ContrastiveLoss(0.5, 4.0, distance=euclidean(), reducer=reducers.MeanReducer()),
        "contrastive manhattan": losses.ContrastiveLoss(0.0, 8.0, distance=distances.LpDistance(p=1, **PLAIN)),
        "contrastive snr": losses.ContrastiveLoss(0.0, 3.0, distance=distances.SNRDistance(**PLAIN)),
        "triplet": losses.TripletMarginLoss(0.2, distance=euclidean()),
        "triplet cosine": losses.TripletMarginLoss(0.1, distance=cosine),
        "triplet soft": losses.TripletMarginLoss(
            0.0, smooth_loss=True, distance=euclidean(), reducer=reducers.MeanReducer()
        ),
        "ntxent": losses.NTXentLoss(0.07, distance=cosine),
        "ntxent inner": losses.NTXentLoss(1.0, distance=inner),
        "ntxent euclidean": losses.NTXentLoss(0.5, distance=euclidean()),
        "multi-similarity": losses.MultiSimilarityLoss(2, 50, 0.5, distance=cosine),
        "circle": losses.CircleLoss(0.4, 80),
        "circle soft": losses.CircleLoss(0.25, 2, reducer=reducers.MeanReducer()),
        "lifted": losses.LiftedStructureLoss(1, 0, distance=euclidean()),
        "nca": losses.NCALoss(0.5, distance=euclidean(2)),
    }


def mined() -> dict[str, tuple[torch.nn.Module, torch.nn.Module]]:
    cosine = distances.CosineSimilarity()
    return {
        "multi-similarity mined": (losses.MultiSimilarityLoss(2, 50, 0.5), miners.MultiSimilarityMiner(0.1)),
        "triplet semihard": (
            losses.TripletMarginLoss(0.3, distance=cosine),
            miners.TripletMarginMiner(0.3, "semihard", distance=cosine),
        ),
        "triplet batch hard": (
            losses.TripletMarginLoss(0.3, distance=euclidean()),
            miners.BatchHardMiner(distance=euclidean()),
        ),
    }


def all_miners() -> dict[str, torch.nn.Module]:
    cosine, sides = distances.CosineSimilarity(), ("easy", "hard", "semihard", "all")
    by_name: dict[str, torch.nn.Module] = {
        "batch hard": miners.BatchHardMiner(distance=euclidean()),
        "multi-similarity": miners.MultiSimilarityMiner(0.1),
        "multi-similarity narrow": miners.MultiSimilarityMiner(-0.3),
    }
    for kind in ("all", "hard", "semihard", "easy"):
        by_name[f"triplet margin {kind}"] = miners.TripletMarginMiner(0.3, kind, distance=cosine)
    for positive in sides:
        for negative in sides:
            if {positive, negative} not in ({"semihard"}, {"semihard", "all"}):
                by_name[f"easy-hard {positive} {negative}"] = miners.BatchEasyHardMiner(
                    positive, negative, distance=euclidean()
                )
    return by_name


def proxy_losses(proxies: torch.Tensor) -> dict[str, torch.nn.Module]:
    classes = proxies.shape[0]
    by_name = {
        "arcface": losses.ArcFaceLoss(classes, DIM, margin=28.6, scale=64),
        "arcface past": losses.ArcFaceLoss(classes, DIM, margin=120, scale=8),
        "cosface": losses.CosFaceLoss(classes, DIM, margin=0.35, scale=64),
        "proxy anchor": losses.ProxyAnchorLoss(classes, DIM, margin=0.1, alpha=32),
    }
    for loss in by_name.values():
        if hasattr(loss, "W"):
            loss.W.data = proxies.T.clone()
        else:
            loss.proxies.data = proxies.clone()
    return by_name


def number(value: torch.Tensor) -> float:
    return float(value.detach())


def with_gradient(loss: torch.nn.Module, miner: torch.nn.Module | None) -> tuple[float, list[list[float]]]:
    """The loss of the batch, and its gradient by the embeddings."""
    data = arrays()
    x, y = torch.tensor(data["embeddings"], requires_grad=True), torch.tensor(data["labels"])
    value = loss(x, y) if miner is None else loss(x, y, miner(x, y))
    value.backward()
    return number(value), [[float(f"{v:.9g}") for v in row] for row in x.grad.tolist()]


def main() -> None:
    data = arrays()
    x, refs, proxies = (torch.tensor(data[k]) for k in ("embeddings", "references", "proxies"))
    y, ref_y = torch.tensor(data["labels"]), torch.tensor(data["ref_labels"])
    cases = {name: (loss, None) for name, loss in (pair_losses() | proxy_losses(proxies)).items()} | mined()
    computed = {name: with_gradient(*case) for name, case in cases.items()}
    against = {name: number(loss(x, y, ref_emb=refs, ref_labels=ref_y)) for name, loss in pair_losses().items()}
    # Its lifted structure takes an anchor's number for a reference's; per anchor it needs a square matrix.
    for name in ("lifted", "contrastive per anchor"):
        del against[name]
    chosen = {name: [t.tolist() for t in miner(x, y)] for name, miner in all_miners().items()}
    memory = losses.CrossBatchMemory(losses.ContrastiveLoss(0.0, 4.0, distance=euclidean()), DIM, memory_size=8)
    steps = [number(memory(x[i : i + 3], y[i : i + 3])) for i in range(0, len(LABELS), 3)]
    fixture = {
        "made_by": "tests/models/metric_learning/make_pml_fixtures.py",
        "versions": {
            "pytorch-metric-learning": pml.__version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "arrays": {name: value.tolist() for name, value in data.items()},
        "losses": {name: value for name, (value, _) in computed.items()},
        "gradients": {name: gradient for name, (_, gradient) in computed.items()},
        "against": against,
        "memory_of_8": steps,
        "miners": chosen,
    }
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(value)}" for name, value in fixture.items())
    Path(__file__).with_name("pml_fixtures.json").write_text(f"{{\n{lines}\n}}\n")


if __name__ == "__main__":
    main()

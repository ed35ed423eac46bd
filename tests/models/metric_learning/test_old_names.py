"""What TensorFlow Similarity's users type gives today's objects, and parts go by their names."""

from typing import Any

import numpy as np
import pytest

from topkin.models import distances, losses, miners, reducers, samplers

ROWS = np.random.default_rng(0).normal(size=(12, 4))
LABELS = np.arange(12) % 3


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (
            losses.MultiSimilarityLoss(distance="cosine", beta=30),
            losses.MultiSimilarity(2, 30, 0.5, miner=miners.MultiSimilarityMiner(0.1, distance=None)),
        ),
        (
            losses.TripletLoss("l2", "easy", "hard", margin=0.3),
            losses.Triplet(0.3, distance=distances.Euclidean(), miner=miners.BatchEasyHard("easy", "hard")),
        ),
        (
            losses.TripletLoss(),
            losses.Triplet(0, True, distance="cosine", miner=miners.BatchEasyHard("hard", "semihard")),
        ),
        (losses.CircleLoss(gamma=10, margin=0.3), losses.Circle(0.3, 10)),
        (losses.SoftNearestNeighborLoss(), losses.SoftNearestNeighbour()),
        (losses.LiftedStructLoss("l1", margin=2), losses.LiftedStructure(2, distance=distances.Manhattan())),
    ],
    ids=lambda loss: type(loss).__name__,
)
def test_an_old_name_is_a_loss_of_today(old: Any, new: Any) -> None:
    assert type(old) is type(new)
    assert float(old(LABELS, ROWS)) == float(new(LABELS, ROWS)) != 0


def test_the_soft_margin_is_that_of_no_margin() -> None:
    assert losses.TripletLoss(margin=None).soft
    assert not losses.TripletLoss(margin=0.0).soft
    memory = losses.XBM(losses.MultiSimilarityLoss(), memory_size=24, dim=4)
    assert (memory.size, memory.dim) == (24, 4)


def test_a_multi_shot_sampler_is_class_batches_of_the_classes_asked_for() -> None:
    names = np.array(["mug", "cup", "pot"])[LABELS]
    batches = samplers.MultiShotMemorySampler(
        ROWS, names, classes_per_batch=2, examples_per_class_per_batch=3, steps_per_epoch=5, class_list=["mug", "pot"]
    )
    assert isinstance(batches, samplers.ClassBatches)
    assert len(batches) == 5
    assert len(batches[0][0]) == 6
    assert batches.classes_.tolist() == ["mug", "pot"]


def test_examples_are_selected_by_class() -> None:
    rows, labels = samplers.select_examples(np.arange(12), LABELS, [2, 0], 3)
    assert sorted(labels.tolist()) == [0, 0, 0, 2, 2, 2]
    assert (LABELS[rows] == labels).all()
    assert len(set(rows.tolist())) == 6
    assert len(samplers.select_examples(np.arange(12), LABELS)[0]) == 12
    rows, _ = samplers.select_examples(np.arange(12), LABELS, [2, 2], 3)
    assert len(set(rows.tolist())) == len(rows) == 3
    with pytest.raises(ValueError, match="examples of a class must be at least 0, got -1"):
        samplers.select_examples(np.arange(12), LABELS, None, -1)
    with pytest.raises(ValueError, match="class_list must be of labels that there are, got 7"):
        samplers.select_examples(np.arange(12), LABELS, [7])
    with pytest.raises(ValueError, match="same length, got 11 and 12"):
        samplers.select_examples(np.arange(11), LABELS)


def test_parts_go_by_their_names() -> None:
    named = losses.Triplet(0.2, distance="Squared_Euclidean", miner="batch_hard", reducer="mean")
    assert type(named.distance) is distances.SquaredEuclidean
    assert type(named.miner) is miners.BatchHard
    assert type(named.reducer) is reducers.Mean
    assert [type(loss) for loss in losses.WeightedSum(["nt_xent", named]).losses] == [losses.NTXent, losses.Triplet]
    assert type(losses.CrossBatchMemory("triplet").loss) is losses.Triplet
    assert type(losses.ArcFace(reducer="sum").reducer) is reducers.Sum
    with pytest.raises(ValueError, match=r"miner must be one of .*, got 'semihardd'; did you mean 'semi_hard'\?"):
        losses.Triplet(miner="semihardd")
    with pytest.raises(ValueError, match="miner 'popular_hard' has no defaults, it needs arguments"):
        losses.NTXent(miner="popular_hard")

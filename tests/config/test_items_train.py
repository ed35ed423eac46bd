"""The section ``[train]`` of an items run: names and arguments of parts, and keys that do not go together."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from topkin.config.items_train import ItemsTrainSettings
from topkin.config.metric_parts import DISTANCES, LEARNERS, LOSSES, MINERS, REDUCERS, SAMPLERS, Part, leaves

PAIRS = {"path": "pairs.parquet"}


def settings(**keys: Any) -> ItemsTrainSettings:
    return ItemsTrainSettings.model_validate_json(json.dumps({"method": "labels", **keys}), strict=True)


def fault(**keys: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        settings(**keys)
    return str(caught.value.errors()[0]["ctx"]["error"])


def test_a_part_is_a_name_alone_or_a_table_with_its_arguments() -> None:
    alone, table = settings(loss="triplet").loss, settings(loss={"name": "triplet", "margin": 0.2}).loss
    assert alone is not None
    assert table is not None
    assert (alone.name, alone.arguments) == ("triplet", {})
    assert (table.name, table.arguments) == ("triplet", {"margin": 0.2})


@pytest.mark.parametrize("name", ["arc_face", "ArcFace", "arcface", "ARC-FACE"])
def test_case_and_underscores_of_a_name_do_not_count(name: str) -> None:
    [part] = leaves(settings(loss=name).chosen_loss)
    assert part.cls == "ArcFace"


@pytest.mark.parametrize("key", ["loss", "miner", "distance", "sampler"])
def test_an_unknown_name_is_told_with_the_nearest(key: str) -> None:
    near = {"loss": "tripled", "miner": "semihart", "distance": "cosin", "sampler": "class_batch"}[key]
    right = {"loss": "triplet", "miner": "semi_hard", "distance": "cosine", "sampler": "class_batches"}[key]
    beside = {} if key in ("loss", "sampler") else {"loss": "triplet"}
    message = fault(**beside, **{key: near})
    assert f"train.{key} must be one of" in message
    assert f"did you mean '{right}'?" in message


def test_an_unknown_argument_is_told_with_those_that_are_allowed() -> None:
    message = fault(loss={"name": "multi_similarity", "alfa": 2.0})
    assert message == (
        "train.loss: the arguments of 'multi_similarity' are alpha, beta, base, distance, miner, reducer, got 'alfa'; "
        "did you mean 'alpha'?"
    )


def test_parts_inside_parts_are_checked_too() -> None:
    inside = {"name": "weighted_sum", "losses": ["nt_xent", {"name": "triplet", "miner": "semi_hart"}]}
    assert "train.loss.losses.miner must be one of" in fault(loss=inside)
    assert "train.loss.losses: a part is a name" in fault(loss={"name": "weighted_sum", "losses": [3]})


@pytest.mark.parametrize(
    ("keys", "part"),
    [
        ({"loss": "am_softmax", "miner": "semi_hard"}, "'am_softmax' takes no miner"),
        ({"loss": {"name": "triplet", "miner": "batch_hard"}, "miner": "semi_hard"}, "say the same: leave one out"),
        ({"loss": "weighted_sum"}, "needs losses, as in"),
        ({"loss": {"name": "weighted_sum", "losses": ["nt_xent", "arcface"]}}, "read classes and rows"),
        ({"loss": "triplet", "sampler": "pair_batches"}, "pair_batches do not feed loss 'triplet'"),
        ({"loss": "pair_contrastive", "sampler": "row_batches"}, "only pair_batches feed"),
        ({"loss": "info_nce", "sampler": "row_batches"}, "needs class_batches"),
        ({"method": "pairs"}, "needs a section [train.pairs]"),
        ({"pairs": PAIRS}, "[train.pairs] is for method 'pairs'"),
        ({"method": "pairs", "pairs": PAIRS, "loss": "arcface"}, "method 'pairs' has none: take info_nce or nt_xent"),
        ({"method": "self_supervised", "loss": "triplet"}, "train.loss has no meaning for method 'self_supervised'"),
        ({"learner": "simclr"}, "train.learner is for method 'self_supervised'"),
        ({"method": "self_supervised", "learner": "simclir"}, "did you mean 'simclr'?"),
        ({"loss": "VICReg"}, 'learns without labels: method = "self_supervised", learner = "vicreg"'),
        ({"loss": "soft_tripel"}, "did you mean 'soft_triple'?"),
    ],
)
def test_keys_that_do_not_go_together_are_told_with_the_cure(keys: dict[str, Any], part: str) -> None:
    assert part in fault(**keys)


def test_an_unknown_method_and_an_unknown_key_are_refused() -> None:
    for keys in ({"method": "label"}, {"epoch": 3}):
        with pytest.raises(ValidationError):
            settings(**keys)


def test_the_tables_are_those_of_the_library() -> None:
    from topkin.models import distances, losses, miners, reducers, samplers
    from topkin.models.metric_training.objective import LEARNER_CLASSES

    given = {"check", "name", "dtype", "counts", "dim", "seed"}  # what the training knows, and Keras' own
    abstract = {"Loss", "MetricLoss", "ProxyLoss", "ListLoss", "Miner", "Distance", "Reducer"}
    for module, table in ((losses, LOSSES), (miners, MINERS), (distances, DISTANCES), (reducers, REDUCERS)):
        assert {part.cls for part in table.values()} == set(module.__all__) - abstract
        for part in table.values():
            assert set(part.arguments) == set(getattr(module, part.cls).options()) - given, part.cls
    drawn: dict[str, Part] = {**SAMPLERS}
    assert {part.cls for part in drawn.values()} <= set(samplers.__all__)
    assert {part.cls for part in LEARNERS.values()} == set(LEARNER_CLASSES)

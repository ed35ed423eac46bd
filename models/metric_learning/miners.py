"""Miners: which pairs or triplets of a batch a loss is to learn from.

Called on labels (n,) and embeddings (n, d), and on references where there are any, a miner returns Pairs or
Triplets of row numbers, eagerly or in a graph. Losses ask for its choice in shapes that XLA compiles too.
Nothing chosen has a gradient.
"""

import math

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike

from topkin.models.metric_learning.distances import Cosine, Distance, Euclidean, SquaredEuclidean
from topkin.models.metric_learning.named import part
from topkin.models.metric_learning.pairwise import (
    Comparison,
    compare,
    counts_of,
    log_share,
    require_two_classes,
    unit,
)
from topkin.models.metric_learning.serialization import Configured, Tensor, serializable
from topkin.models.metric_learning.tuples import (
    Choice,
    PairMasks,
    Pairs,
    TripletCube,
    TripletList,
    Triplets,
    check,
    choice_of,
)

__all__ = [
    "AllPairs",
    "AllTriplets",
    "Angular",
    "BatchEasyHard",
    "BatchHard",
    "DistanceWeighted",
    "Miner",
    "MultiSimilarityMiner",
    "PopularHard",
    "SemiHard",
    "TripletMargin",
]
STRATEGIES = ("easy", "semihard", "hard", "all")
KINDS = ("all", "hard", "semihard", "easy")


class Miner(Configured):
    """Which pairs or triplets of a batch a loss learns from: the interface; a subclass has :meth:`mine`.

    Called on labels (n,) and embeddings (n, d), and on references (m, d) where there are any, it returns Pairs
    or Triplets of row numbers, int64.

    Args:
        distance: what is near, or its name; the loss's where None, cosine similarity when called by itself.

    Examples:
        >>> from topkin.models import miners
        >>> rows = np.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
        >>> [index.numpy().tolist() for index in miners.AllPairs()([0, 0, 1], rows)]
        [[0, 1], [1, 0], [0, 1, 2, 2], [2, 2, 0, 1]]
    """

    def __init__(self, *, distance: Distance | str | None = None) -> None:
        self.distance: Distance | None = part("distance", distance)

    def __call__(
        self,
        labels: Tensor,
        embeddings: Tensor,
        ref_labels: Tensor | None = None,
        references: Tensor | None = None,
    ) -> Pairs | Triplets:
        """The tuples of a batch, or of a batch against references, checked."""
        comparison = compare(labels, embeddings, ref_labels, references)
        require_two_classes(comparison)
        return check(self.choose(comparison).tuples(), comparison)

    def choose(self, comparison: Comparison, distance: Distance | None = None) -> Choice:
        """What is chosen of a comparison, as losses take it. distance: the loss's."""
        references = None if comparison.own else comparison.references
        distance = self.distance or distance or Cosine()
        far = tf.stop_gradient(distance.dissimilarity(comparison.vectors, references))
        return choice_of(self.mine(comparison, far), comparison)

    def mine(self, comparison: Comparison, far: Tensor) -> Choice | Pairs | Triplets:
        """A choice, given how far each row is from each reference, (n, m), larger is farther.

        A miner of your own may return index tuples, which are checked: its model then needs
        ``compile(jit_compile=False)``.
        """
        raise NotImplementedError


def _at_most(far: Tensor, mask: Tensor, largest: bool) -> tuple[Tensor, Tensor]:
    """The column of each row's largest (or smallest) value under the mask, and the value, infinite where none."""
    none = tf.constant(-np.inf if largest else np.inf, far.dtype)
    masked = tf.where(mask, far, none)
    column = tf.argmax(masked, axis=1) if largest else tf.argmin(masked, axis=1)
    return column, tf.reduce_max(masked, axis=1) if largest else tf.reduce_min(masked, axis=1)


def _only(far: Tensor, mask: Tensor, largest: bool) -> Tensor:
    """The mask with nothing left in each row but its largest (or smallest) value; of equal ones the first."""
    column, _ = _at_most(far, mask, largest)
    return mask & tf.one_hot(column, tf.shape(far)[1], on_value=True, off_value=False, dtype=tf.bool)


def _all_triplets(comparison: Comparison) -> Tensor:
    return PairMasks(comparison.same, comparison.different).cube()


@serializable
class AllPairs(Miner):
    """Every positive and every negative pair.

    Examples:
        >>> from topkin.models import miners
        >>> rows = np.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
        >>> [index.numpy().tolist() for index in miners.AllPairs()([0, 0, 1], rows)]
        [[0, 1], [1, 0], [0, 1, 2, 2], [2, 2, 0, 1]]
    """

    def mine(self, comparison: Comparison, far: Tensor) -> PairMasks:
        return PairMasks(comparison.same, comparison.different)


@serializable
class AllTriplets(Miner):
    """Every positive pair with every negative of its anchor.

    Examples:
        >>> from topkin.models import miners
        >>> rows = np.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
        >>> [index.numpy().tolist() for index in miners.AllTriplets()([0, 0, 1], rows)]
        [[0, 1], [1, 0], [2, 2]]
    """

    def mine(self, comparison: Comparison, far: Tensor) -> TripletCube:
        return TripletCube(_all_triplets(comparison))


@serializable
class TripletMargin(Miner):
    """All triplets whose negative is farther than the positive by at most ``margin``, or a part of them.

    Args:
        margin: in the distance's unit.
        kind: "all"; "hard", the negative is no farther than the positive; "semihard", it is farther, but by no
            more than the margin; "easy", those that "all" leaves out.
        distance: what is near; the loss's where None, cosine similarity when called by itself.

    Raises:
        ValueError: another kind.

    Examples:
        >>> from topkin.models import miners
        >>> rows = np.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
        >>> [index.numpy().tolist() for index in miners.TripletMargin(0.2, kind="hard")([0, 0, 1], rows)]
        [[1], [0], [2]]
    """

    def __init__(self, margin: float = 0.2, kind: str = "all", *, distance: Distance | str | None = None) -> None:
        super().__init__(distance=distance)
        if kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
        self.margin, self.kind = margin, kind

    def mine(self, comparison: Comparison, far: Tensor) -> TripletCube:
        gap = far[:, None, :] - far[:, :, None]
        chosen = {
            "all": gap <= self.margin,
            "hard": (gap <= self.margin) & (gap <= 0),
            "semihard": (gap <= self.margin) & (gap > 0),
            "easy": gap > self.margin,
        }[self.kind]
        return TripletCube(_all_triplets(comparison) & chosen)


@serializable
class SemiHard(TripletMargin):
    """Triplets whose negative is farther than the positive, but by no more than ``margin``.

    Schroff et al., FaceNet: a unified embedding for face recognition and clustering, CVPR 2015.

    Args:
        margin: in the distance's unit.
        distance: what is near; the loss's where None, cosine similarity when called by itself.

    Examples:
        >>> from topkin.models import miners
        >>> rows = np.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
        >>> [index.numpy().tolist() for index in miners.SemiHard(0.5)([0, 0, 1], rows)]
        [[], [], []]
    """

    def __init__(self, margin: float = 0.2, *, distance: Distance | str | None = None) -> None:
        super().__init__(margin, "semihard", distance=distance)

    @classmethod
    def options(cls) -> list[str]:
        """The kind is given."""
        return ["margin", "distance"]


@serializable
class BatchHard(Miner):
    """For each anchor its farthest positive and its nearest negative.

    Hermans et al., In defense of the triplet loss for person re-identification, 2017.

    Examples:
        >>> from topkin.models import miners
        >>> rows = np.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
        >>> [index.numpy().tolist() for index in miners.BatchHard()([0, 0, 1], rows)]
        [[0, 1], [1, 0], [2, 2]]
    """

    def mine(self, comparison: Comparison, far: Tensor) -> TripletList:
        p, _ = _at_most(far, comparison.same, largest=True)
        n, _ = _at_most(far, comparison.different, largest=False)
        valid = tf.reduce_any(comparison.same, axis=1) & tf.reduce_any(comparison.different, axis=1)
        return TripletList(tf.range(tf.shape(far, out_type=tf.int64)[0]), p, n, valid)


@serializable
class BatchEasyHard(Miner):
    """One positive and one negative for each anchor, each by a strategy.

    Xuan et al., Improved embeddings with easy positive triplet mining, WACV 2020.

    Args:
        positive: "easy" (the nearest positive), "hard" (the farthest), "semihard" (the hardest that still keeps
            the positive nearer than the chosen negative), or "all".
        negative: likewise, "easy" being the farthest. "semihard" goes with "easy" or "hard" on the other side.
        distance: what is near; the loss's where None, cosine similarity when called by itself.

    Raises:
        ValueError: another strategy, or two that do not go together.

    Examples:
        >>> from topkin.models import miners
        >>> rows = np.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
        >>> [index.numpy().tolist() for index in miners.BatchEasyHard("easy", "hard")([0, 0, 1], rows)]
        [[0, 1], [1, 0], [0, 1], [2, 2]]
    """

    def __init__(
        self, positive: str = "easy", negative: str = "semihard", *, distance: Distance | str | None = None
    ) -> None:
        super().__init__(distance=distance)
        for name, strategy in (("positive", positive), ("negative", negative)):
            if strategy not in STRATEGIES:
                raise ValueError(f"{name} must be one of {', '.join(STRATEGIES)}, got {strategy!r}")
        if {positive, negative} in ({"semihard"}, {"semihard", "all"}):
            raise ValueError(
                f'"semihard" must stand beside "easy" or "hard", got positive={positive!r}, negative={negative!r}'
            )
        self.positive, self.negative = positive, negative

    def mine(self, comparison: Comparison, far: Tensor) -> PairMasks:
        same, different = comparison.same, comparison.different
        if self.positive == "semihard":
            _, near = _at_most(far, different, largest=self.negative == "easy")
            same = same & (far < near[:, None])
        if self.negative == "semihard":
            _, reach = _at_most(far, same, largest=self.positive == "hard")
            different = different & (far > reach[:, None])
        if "all" not in (self.positive, self.negative):
            both = tf.reduce_any(same, axis=1) & tf.reduce_any(different, axis=1)
            same, different = same & both[:, None], different & both[:, None]
        if self.positive != "all":
            same = _only(far, same, largest=self.positive != "easy")
        if self.negative != "all":
            different = _only(far, different, largest=self.negative == "easy")
        return PairMasks(same, different)


@serializable
class MultiSimilarityMiner(Miner):
    """Positives that are farther than the nearest negative less ``epsilon``, and negatives the other way round.

    Wang et al., Multi-similarity loss with general pair weighting for deep metric learning, CVPR 2019.

    Args:
        epsilon: how much of the distance is let pass.
        distance: what is near; the loss's where None, cosine similarity when called by itself.

    Examples:
        >>> from topkin.models import miners
        >>> rows = np.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
        >>> [index.numpy().tolist() for index in miners.MultiSimilarityMiner()([0, 0, 1], rows)]
        [[1], [0], [1], [2]]
    """

    def __init__(self, epsilon: float = 0.1, *, distance: Distance | str | None = None) -> None:
        super().__init__(distance=distance)
        self.epsilon = epsilon

    def mine(self, comparison: Comparison, far: Tensor) -> PairMasks:
        _, nearest = _at_most(far, comparison.different, largest=False)
        _, farthest = _at_most(far, comparison.same, largest=True)
        positives = comparison.same & (far + self.epsilon > nearest[:, None])
        negatives = comparison.different & (far - self.epsilon < farthest[:, None])
        return PairMasks(positives, negatives)


@serializable
class Angular(Miner):
    """Triplets whose angle at the negative is above some degrees: the negative is near the pair beside its width.

    tan(angle) = |a - p| / (2 |n - c|), c the middle of anchor and positive, in Euclidean distance whatever the loss's.

    Wang et al., Deep metric learning with angular loss, ICCV 2017.

    Args:
        degrees: above 0, below 90.

    Raises:
        ValueError: other degrees.

    Examples:
        >>> from topkin.models import miners
        >>> rows = np.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
        >>> [index.numpy().tolist() for index in miners.Angular(20)([0, 0, 1], rows)]
        [[0, 1], [1, 0], [2, 2]]
    """

    def __init__(self, degrees: float = 20.0) -> None:
        super().__init__(distance=SquaredEuclidean())
        if not 0 < degrees < 90:
            raise ValueError(f"degrees must be above 0 and below 90, got {degrees}")
        self.degrees = degrees

    @classmethod
    def options(cls) -> list[str]:
        """The distance is given."""
        return ["degrees"]

    def mine(self, comparison: Comparison, far: Tensor) -> TripletCube:
        across = tf.stop_gradient(SquaredEuclidean().matrix(comparison.references, comparison.references))
        # The median of a triangle: |n - c|² = (2 |n - a|² + 2 |n - p|² - |a - p|²) / 4.
        width = far[:, :, None]
        median = (2.0 * far[:, None, :] + 2.0 * across[None, :, :] - width) / 4.0
        steep = (2.0 * math.tan(math.radians(self.degrees))) ** 2
        return TripletCube(_all_triplets(comparison) & (width > steep * median))


@serializable
class DistanceWeighted(Miner):
    """For each positive pair one negative, drawn evenly over the distances instead of over the rows.

    On the sphere almost all rows are at a distance of about 1.4; a negative at distance D is drawn with a
    chance proportional to one by the density of distances, D^(d - 2) (1 - D²/4)^((d - 3)/2). Needs unit rows.
    Anchors with no negative near enough are left out.

    Wu et al., Sampling matters in deep embedding learning, ICCV 2017.

    Args:
        cutoff: D is taken as this at least.
        farthest: negatives farther than this are not drawn.
        seed: of the draws; they go on from batch to batch.

    Examples:
        >>> from topkin.models import miners
        >>> rows = np.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
        >>> [index.numpy().tolist() for index in miners.DistanceWeighted(seed=1)([0, 0, 1], rows)]
        [[1], [0], [2]]
    """

    def __init__(self, cutoff: float = 0.5, farthest: float = 1.4, *, seed: int | None = None) -> None:
        super().__init__(distance=Euclidean())
        self.cutoff, self.farthest, self.seed = cutoff, farthest, seed
        self._seeds = keras.random.SeedGenerator(seed)

    @classmethod
    def options(cls) -> list[str]:
        """The distance is given."""
        return ["cutoff", "farthest", "seed"]

    def log_weights(self, far: Tensor, dim: int) -> Tensor:
        """The logarithm of each pair's weight, (n, m), not normalised; -inf where too far."""
        distance = tf.maximum(far, self.cutoff)
        rest = tf.maximum(1.0 - 0.25 * tf.square(distance), 1e-6)
        weights = (2.0 - dim) * tf.math.log(distance) - 0.5 * (dim - 3.0) * tf.math.log(rest)
        return tf.where(distance < self.farthest, weights, tf.constant(-np.inf, far.dtype))

    def mine(self, comparison: Comparison, far: Tensor) -> TripletList:
        unit(comparison.vectors, "DistanceWeighted")
        unit(comparison.references, "DistanceWeighted")
        weights = self.log_weights(far, int(comparison.vectors.shape[1]))
        weights = tf.where(comparison.different, weights, tf.constant(-np.inf, far.dtype))
        possible = tf.reduce_any(weights > -np.inf, axis=1)
        n, m = tf.unstack(tf.shape(far))
        seed = tf.cast(tf.convert_to_tensor(self._seeds.next()), tf.int64)
        # Whole numbers by a named generator: XLA's fractions are not those of TensorFlow.
        bits = tf.random.stateless_uniform(tf.stack([n, m, m]), seed, 0, 2**30, tf.int32, alg="philox")
        uniform = (tf.cast(bits, far.dtype) + 0.5) / 2**30
        # The largest of logit + Gumbel noise is a draw from the softmax of the logits.
        drawn = tf.argmax(weights[:, None, :] - tf.math.log(-tf.math.log(uniform)), axis=2)
        rows, columns = tf.meshgrid(tf.range(n, dtype=tf.int64), tf.range(m, dtype=tf.int64), indexing="ij")
        flat = [tf.reshape(x, [-1]) for x in (rows, columns, drawn, comparison.same & possible[:, None])]
        return TripletList(*flat)


@serializable
class PopularHard(Miner):
    """All positives, and for each anchor the ``k`` hardest negatives with popularity taken into account.

    In a batch drawn from purchases a popular item is a negative often, and is near many users because many
    buy it: the hardest negatives are then the bestsellers, over and over. A negative's hardness is its
    nearness by ``temperature`` less ``correction`` times the logarithm of its label's share of ``counts``.

    Args:
        counts: (labels,), how often each label occurs; labels number its entries. An entry of 0 is taken as ½.
        k: negatives for each anchor.
        correction: 1 is the logQ correction of the sampled softmax, 0 plain hard negatives; below 0 popular items
            come first, as the surer negatives (seen by the user and not bought).
        temperature: of the nearness.
        distance: what is near; the loss's where None, cosine similarity when called by itself.

    Raises:
        ValueError: counts that are none, or k below 1.

    Examples:
        >>> from topkin.models import miners
        >>> rows = np.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
        >>> [index.numpy().tolist() for index in miners.PopularHard(counts=[10, 1], k=1)([0, 0, 1], rows)]
        [[0, 1], [1, 0], [0, 1, 2], [2, 2, 1]]
    """

    def __init__(
        self,
        counts: ArrayLike,
        k: int = 1,
        correction: float = 1.0,
        temperature: float = 0.1,
        *,
        distance: Distance | str | None = None,
    ) -> None:
        super().__init__(distance=distance)
        self.counts = counts_of(counts)
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        self.k, self.correction, self.temperature = k, correction, temperature

    def mine(self, comparison: Comparison, far: Tensor) -> PairMasks:
        share = log_share(self.counts, comparison.ref_labels, far.dtype)
        hardness = -far / self.temperature - self.correction * share[None, :]
        left, chosen = comparison.different, tf.zeros_like(comparison.different)
        for _ in range(self.k):
            hardest = _only(hardness, left, largest=True)
            left, chosen = left & tf.logical_not(hardest), chosen | hardest
        return PairMasks(comparison.same, chosen)

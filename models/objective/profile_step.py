"""The training step of the block ``profile``: what users of such features buy, beside how well each item sells.

With x the sum of the rows of a user's features and o_j the vector of item j, its id row and what its content says, the
chance that the user buys j is a softmax of ``x . o_j + r_j + log e_j``: r_j is the item's rate of sales, one more
coordinate of its vector, and e_j the share of the examples that came after its first sale, as in
:mod:`topkin.models.objective.feature_step`. No history is read, so that users of one purchase, or none, are known too.

The user and item towers of Yi et al., Sampling-bias-corrected neural modeling, RecSys 2019.
"""

import numpy as np
import tensorflow as tf

from topkin.config.sections import TrainSettings
from topkin.models.data.item_features import ItemFeatures
from topkin.models.objective.losses import sampled_softmax_of_pairs
from topkin.models.objective.smoothing import Smoothing
from topkin.models.objective.step import Step
from topkin.models.two_tower.towers import TwoTower


class ProfileStep(Step):
    """One optimizer step of the tables of users' features and of items.

    model: of ``profile_rows``, with one coordinate more than tastes have. rates, log_exposure: as of ``FeatureStep``.
    The rest is as of :class:`Step`.
    """

    def __init__(
        self,
        model: TwoTower,
        features: ItemFeatures,
        train: TrainSettings,
        log_q: np.ndarray,
        *,
        rates: np.ndarray,
        log_exposure: np.ndarray,
    ) -> None:
        self.model, self.train, self.smoothed, self.free = model, train, False, model.id_out
        self.content = any(values.any() for values in features.content.values())
        self._keep(features)
        self.log_q = tf.Variable(log_q, trainable=False)
        self.log_exposure = tf.constant(log_exposure)
        rows = np.asarray(model.id_out.table).copy()
        rows[features.id_rows[features.id_rows > 0], -1] = rates[features.id_rows > 0]
        model.id_out.table.assign(rows)
        self.publish(None)
        tables = [*(model.outs if self.content else [model.id_out]), *model.profiles]
        self._train(tables, [*model.mixed, *model.profiles, model.id_out])

    @property
    def signature(self) -> dict[str, tf.TensorSpec]:
        """What a batch holds."""
        specs = {name: tf.TensorSpec((None,), tf.int32) for name in ("candidates", "candidates_rows")}
        specs |= {name: tf.TensorSpec((None,), tf.int32) for name in ("target", "question")}
        specs |= {"bought": tf.TensorSpec((None, 2), tf.int32), "weights": tf.TensorSpec((None,), tf.float32)}
        return specs | {
            "values": tf.TensorSpec((None, None), tf.int32),
            "shares": tf.TensorSpec((None, None), tf.float32),
        }

    def publish(self, smoothing: Smoothing | None) -> None:
        """Leave no user feature a part in how well items sell, which is that of the last row, of all users alike."""
        rows = np.asarray(self.model.profiles[0].table).copy()
        rows[:, -1] = 0
        rows[-1] = np.eye(self.model.dim, dtype=np.float32)[-1]
        self.model.profiles[0].table.assign(rows)

    def _step(self, batch: dict[str, tf.Tensor]) -> tf.Tensor:
        self.traces += 1
        with tf.GradientTape() as tape:
            items = self._out(batch)
            users = self.model.profiles[0].mixed(batch["values"], batch["shares"])
            users = tf.concat([users[:, :-1], tf.ones_like(users[:, :1])], axis=1)
            exposure = tf.gather(self.log_exposure, batch["candidates"])[:, None]
            losses = sampled_softmax_of_pairs(
                users,
                items,
                batch["question"],
                batch["target"],
                batch["bought"],
                tf.gather(self.log_q, batch["candidates"]),
                temperature=1.0,
                base=(tf.ones_like(users[:, :1]), exposure),
            )
            loss = tf.reduce_mean(losses * batch["weights"])
        self.optimizer.apply(tape.gradient(loss, self.trained), self.trained)
        return loss

"""The training step of the features block: what users buy by what items are, beside how well each item sells.

With x the mean of the in-rows of a user's purchases and o_j the out-rows of item j, both sums over what is known of an
item, the chance that the user buys j next is a softmax of ``x . o_j + c_j + r_j + log e_j``: c_j is a number that the
item's content makes, r_j one of its own, its rate of sales, and e_j the share of the examples that came after its
first sale. The last says why a new item sold little, and is left off when items are scored. As a tower, c_j + r_j is
one more coordinate of the out-vector, and of in-vectors that coordinate is 1: a mean of purchases has it whole.

Where purchases have features, x is a weighted mean: the weight of a purchase is ``exp(g . f)``, with f its features and
g learned with the rest, so that a purchase which foretells nothing of the next ones counts little.

A conditional logit with free intercepts: McFadden, Conditional logit analysis of qualitative choice behavior, 1974;
sampled as Yi et al., RecSys 2019, see :func:`topkin.models.objective.losses.sampled_softmax`.
"""

import keras
import numpy as np
import tensorflow as tf

from topkin.config.sections import TrainSettings
from topkin.models.data.item_features import ItemFeatures
from topkin.models.data.purchase_weights import MOST
from topkin.models.objective.losses import sampled_softmax
from topkin.models.objective.smoothing import Smoothing
from topkin.models.objective.step import Step
from topkin.models.ops.row_sums import row_sums
from topkin.models.two_tower.towers import RowTable, TwoTower


class FeatureStep(Step):
    """One optimizer step of the tables of content and of the items' rates.

    model: of one coordinate more than tastes have. rates: (n_items,) float32 to begin with. log_exposure: (n_items,)
    float32 of e_j. purchase_rows: rows of the features of purchases, 0 for none; then batches hold these too. The rest
    is as of :class:`Step`.
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
        purchase_rows: int = 0,
    ) -> None:
        self.model, self.train, self.smoothed, self.content = model, train, False, True
        self._keep(features)
        self.log_q = tf.Variable(log_q, trainable=False)
        self.log_exposure = tf.constant(log_exposure)
        self.free = RowTable(model.items, 1, name="rates")
        self.free.build()
        own = np.zeros((model.items + 1, 1), np.float32)
        own[features.id_rows[features.id_rows > 0], 0] = rates[features.id_rows > 0]
        self.free.table.assign(own)
        tables = [t for t in model.tables if t is not model.id_in and t is not model.id_out]
        self.gates = [RowTable(purchase_rows, 1, scale=0.0, name="purchases")] if purchase_rows else []
        for gate in self.gates:
            gate.build()
        self._train([self.free, *tables, *self.gates], [self.free, *model.mixed, *self.gates])

    @property
    def variables(self) -> list[keras.Variable]:
        """See :class:`Step`."""
        return [*self.optimizer.variables, self.free.table, *(gate.table for gate in self.gates)]

    @property
    def signature(self) -> dict[str, tf.TensorSpec]:
        """See :class:`Step`."""
        more = {"purchase_rows": tf.int32, "purchase_shares": tf.float32} if self.gates else {}
        return super().signature | {name: tf.TensorSpec((None, None), kind) for name, kind in more.items()}

    def publish(self, smoothing: Smoothing | None) -> None:
        """Put the rates, and the 1 of in-vectors, into the last coordinate of the model's tables."""
        model = self.model
        out, pooled = (np.zeros((model.items + 1, model.dim), np.float32) for _ in range(2))
        out[:, -1] = np.asarray(self.free.table)[:, 0]
        pooled[:, -1] = 1
        model.id_out.table.assign(out)
        model.id_in.table.assign(pooled)
        for table in model.ins[1:]:
            table.table.assign(np.asarray(table.table) * np.r_[np.ones(model.dim - 1), 0].astype(np.float32))

    def _step(self, batch: dict[str, tf.Tensor]) -> tf.Tensor:
        self.traces += 1
        with tf.GradientTape() as tape:
            content = self.model.content(self._read(batch["candidates"]), "out")
            rates = content[:, -1:] + self.free(batch["candidates_rows"])
            items = tf.concat([content[:, :-1], rates], axis=1)
            pooled = self.model.content(self._read(batch["pooled"]), "in")
            pooled = tf.concat([pooled[:, :-1], tf.ones_like(pooled[:, -1:])], axis=1)
            weights = batch["history_weights"]
            for gate in self.gates:
                logs = gate.mixed(batch["purchase_rows"], batch["purchase_shares"])[:, 0]
                weights *= tf.exp(tf.clip_by_value(logs, -MOST, MOST))
            users = row_sums(batch["history"], weights, pooled, batch["question"][-1] + 1)
            users = users / tf.maximum(users[:, -1:], 1e-30)  # weights of old purchases may be nothing
            loss = tf.reduce_mean(self._losses(users, items, batch) * batch["weights"])
        self.optimizer.apply(tape.gradient(loss, self.trained), self.trained)
        return loss

    def _losses(self, users: tf.Tensor, items: tf.Tensor, batch: dict[str, tf.Tensor]) -> tf.Tensor:
        return sampled_softmax(
            users,
            items,
            batch["question"],
            batch["target"],
            self._negative(users, items, batch),
            tf.gather(self.log_q, batch["candidates"]),
            temperature=1.0,
            base=tf.gather(self.log_exposure, batch["candidates"])[None, :],
        )

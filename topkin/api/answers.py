"""Lists, neighbours and explanations of a recommender's data, by the functions that the jobs' workers call."""

from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from topkin.api.data import RecommenderData, rows_in
from topkin.baselines import registry
from topkin.baselines.fitted import fit_baselines
from topkin.encoding.blocks import preference_embeddings
from topkin.errors import ConfigError
from topkin.interactions import Interactions
from topkin.recommend import similar
from topkin.recommend.bought import weights_of
from topkin.recommend.explain import ExplainableScores
from topkin.recommend.lists import ItemContext, recommend
from topkin.recommend.placement import Placement, placement, shares_of
from topkin.recommend.popular_fallback import segment_counts
from topkin.recommend.repurchase.blend import Repurchase
from topkin.recommend.repurchase.rates import RepurchaseRates, counts_of, merge_counts
from topkin.recommend.rules.eligibility import allowed_of
from topkin.recommend.searchers import BaselineSearcher, ExactSearcher, Searcher
from topkin.recommend.second.chosen import blend_of
from topkin.recommend.second.stage import SecondStage


class Answers:
    """Computes what is asked of a recommender's data. Ids are distinct; None means all, by id."""

    def __init__(self, data: RecommenderData) -> None:
        self.data, self.rules = data, data.settings.recommend

    def recommendations(self, users: pa.Array | None, k: int) -> pa.Table:
        """``schemas.recommendations``."""
        rows = self._user_rows(users)
        histories, settings = self.data.histories.take(pa.array(rows)), self.rules.model_copy(update={"k": k})
        vectors = self.data.vectors[rows] if self.rules.baseline is None else np.zeros((len(rows), 0), np.float32)
        return recommend(histories, vectors, self.context, self._searcher, settings, self.data.as_of).recommendations

    def similar_items(self, items: pa.Array | None, k: int) -> pa.Table:
        """``schemas.similar_items``."""
        ids = self.data.items.ids
        rows = np.arange(len(ids)) if items is None else rows_in(items, ids, "items")
        vectors = preference_embeddings(self.data.items.vectors, self.data.blocks)
        nearest = similar.similar_items(vectors, rows, self._allowed, min(k, len(ids)))
        return similar.items_table(ids, rows, nearest, self.data.encoder)

    def similar_users(self, users: pa.Array | None, k: int) -> pa.Table:
        """``schemas.similar_users``."""
        rows, ids = self._user_rows(users), self.data.histories["user_id"].combine_chunks()
        vectors = preference_embeddings(self.data.vectors, self.data.blocks)
        nearest = similar.similar_items(vectors, rows, np.ones(len(ids), bool), min(k, len(ids)))
        return similar.users_table(ids.take(pa.array(rows)), ids, nearest, self.data.encoder)

    def explanation(self, user: pa.Array, item: pa.Array) -> pa.Table:
        """The purchases of one user that speak for one item, largest share of its score first."""
        if self.rules.baseline is not None:
            raise ConfigError(
                f'explain gives shares of the encoder\'s scores, got recommend.model = "{self.rules.model}": its '
                "reasons, if it has any, are in the column because of its lists"
            )
        ids, history = self.data.items.ids, self.data.histories_of(user)
        number = int(rows_in(item, ids, "items")[0])
        return shares_of(self._scores, history, ids, self.data.vectors_of(user)[0], number, self.data.as_of)

    def placement(self, user: pa.Array, item: pa.Array, listed: pa.Table) -> Placement:
        """Where an item stands for a user, whose rows of the lists are ``listed``."""
        return placement(
            catalogue=self.data.catalogue,
            settings=self.rules,
            as_of=self.data.as_of,
            history=self.data.histories_of(user),
            listed=listed,
            vector=self.data.vectors_of(user)[0],
            scores=self._scores,
            item=int(rows_in(item, self.data.items.ids, "items")[0]),
            timed=self.data.settings.timed,
        )

    def _user_rows(self, users: pa.Array | None) -> np.ndarray:
        known = self.data.histories["user_id"]
        return np.asarray(pc.sort_indices(known)) if users is None else rows_in(users, known, "users")

    @cached_property
    def history(self) -> Interactions:
        """The purchases of all users before the as-of date, in the order of the histories."""
        return Interactions.from_histories(self.data.histories, self.data.items.ids, self.data.as_of)

    @cached_property
    def _allowed(self) -> np.ndarray:
        return allowed_of(self.rules, self.data.catalogue).mask

    @cached_property
    def _scores(self) -> ExplainableScores:
        items, length = self.data.items, self.data.settings.embed.history_length
        return ExplainableScores(
            vectors=items.vectors,
            in_vectors=items.in_vectors,
            buyers=self.data.buyers,
            blocks=self.data.blocks,
            history_length=length,
        )

    @cached_property
    def _searcher(self) -> Searcher:
        name = self.rules.baseline
        if name is None:
            return ExactSearcher(self.data.items.vectors, self._scores)
        if why := registry.left_out([name]):
            raise ConfigError(f"recommend.model cannot make the lists: {why[name]}, or choose another")
        baseline = fit_baselines(self.history, [name], self.data.settings.evaluate.neighbours)[name]
        return BaselineSearcher(baseline, np.asarray(self.data.catalogue["events"]) > 0)

    @cached_property
    def context(self) -> ItemContext:
        """The items as the job ``recommend`` knows them."""
        data = self.data
        return ItemContext.of_catalogue(
            data.catalogue,
            self.rules,
            allowed=self._allowed,
            encoder=data.encoder,
            vectors=data.items.vectors,
            segments=segment_counts(self.history, data.histories, data.as_of, data.settings.prepare.recent_days),
            repurchase=self._repurchase(),
            second=self._second(),
        )

    def _second(self) -> SecondStage | None:
        weights = blend_of(self.rules, self.data.blend)
        if weights is None:
            return None
        return SecondStage.fitted(weights, self.history, self.data.settings.evaluate.neighbours)

    def _repurchase(self) -> Repurchase | None:
        weights, categories = weights_of(self.rules, self.data.repurchase), self.data.catalogue["category"]
        if weights is None:
            return None
        counts = merge_counts([counts_of(self.history)])
        return Repurchase(weights, RepurchaseRates.of(counts, len(categories), categories))

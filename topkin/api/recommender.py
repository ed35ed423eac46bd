"""The recommender in memory: fitted on tables, or loaded from a run, it answers with tables of the jobs' schemas."""

import os
from collections.abc import Mapping
from datetime import date, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import pyarrow as pa

from topkin.api.answers import Answers
from topkin.api.data import FittedData, RecommenderData, StoredData
from topkin.api.inputs import ArrowStream, Ids, as_ids, as_table, events_by_columns, named_by_columns, prepare_tables
from topkin.api.runs import open_run
from topkin.config.as_of import parse_as_of
from topkin.config.load import load_settings, settings_of
from topkin.config.sections import Settings
from topkin.errors import ConfigError

if TYPE_CHECKING:
    from topkin.recommend.placement import Placement

IN_MEMORY = ("purchases", "items", "users")


class Recommender:
    """Recommendations from purchases in memory, by the same functions, and with the same lists, as ``topkin run``.

    Args:
        settings: Settings, the path of a TOML file that holds them, or a mapping by section; the columns of the tables
            are then those that it names. Paths of inputs and of the output do not count.
        **sections: Sections of the configuration that replace those of ``settings`` key by key, such as
            ``train={"epochs": 0}`` or ``purchases={"user_id": "customer"}``.

    Raises:
        ConfigError: A setting is wrong.

    Examples:
        >>> import pyarrow as pa, topkin
        >>> purchases = pa.table({  # or a pandas or Polars frame, or a DuckDB relation
        ...     "user_id": ["ann", "ann", "bob", "bob", "cat"],
        ...     "item_id": ["tea", "cup", "tea", "pot", "cup"],
        ...     "timestamp": ["2024-05-01", "2024-05-02", "2024-05-01", "2024-05-03", "2024-05-03"],
        ... })
        >>> recommender = topkin.Recommender(train={"epochs": 0}).fit(purchases)
        >>> recommender.recommend("ann", k=1)["item_id"].to_pylist()
        ['pot']
        >>> recommender.explain("ann", "pot")["item_id"].to_pylist()  # by who bought tea, and by what sells
        ['tea', 'cup']
        >>> recommender.why("ann", "tea").why_not[0]
        'the user bought it 1 time, last on 2024-05-01: by recommend.bought = "exclude" bought items are never listed'
    """

    def __init__(
        self,
        settings: Settings | Mapping[str, Any] | str | os.PathLike[str] | None = None,
        **sections: Mapping[str, Any],
    ) -> None:
        if settings is not None and not isinstance(settings, Settings | Mapping):
            settings = load_settings(settings)
        # The columns of settings that were written for files are as they say; otherwise topkin's own names count.
        self._by_name = not isinstance(settings, Settings)
        values = settings.model_dump(mode="json", exclude_unset=True) if isinstance(settings, Settings) else settings
        values = _merged(values or {}, sections)
        placed: dict[str, Any] = {name: {"path": name} for name in IN_MEMORY if name == "purchases" or values.get(name)}
        if isinstance(events := values.get("events"), Mapping):  # what is none, settings_of tells
            placed["events"] = {n: {**e, "path": n} if isinstance(e, Mapping) else e for n, e in events.items()}
        self._values = {name: v for name, v in _merged(values, placed).items() if v is not None and name != "heldout"}
        settings_of(self._values, "Recommender")
        self._data: RecommenderData | None = None

    def __repr__(self) -> str:
        if self._data is None:
            return "<Recommender, not fitted>"
        return f"<Recommender as of {self._data.as_of.isoformat()}, encoder {self._data.encoder[:12]}>"

    def fit(
        self,
        purchases: ArrowStream,
        items: ArrowStream | None = None,
        users: ArrowStream | None = None,
        *,
        events: Mapping[str, ArrowStream] | None = None,
        as_of: datetime | date | str | None = None,
    ) -> Self:
        """Learn from purchases; what the settings make of rows, rules and duplicates happens here too.

        Args:
            purchases: Any table with the Arrow C stream interface: ``user_id``, ``item_id``, ``timestamp``, and
                ``quantity``, ``price`` and ``segment`` where there are such columns. Without any time the rows of a
                user are in their order, and a warning says so unless ``purchases.order`` is set.
            items: The catalogue, if there is one: ``item_id``, ``title``, ``category``, ``price``, ``available``,
                ``vector``.
            users: Users to serve beside those with purchases: ``user_id``, ``segment``, columns of ``users.features``.
            events: Events beside the purchases, a table with ``user_id``, ``item_id`` and ``timestamp`` for each
                type, such as ``{"view": views}``; what each weighs is in the settings, as
                ``events={"view": {"weight": 0.2}}``.
            as_of: Purchases from then on are left out. Just after the last one by default.

        Returns:
            The recommender itself.

        Raises:
            TypeError: A table has no Arrow C stream.
            ConfigError: The settings do not fit the tables.
            InputError: The tables break the contract: a column is missing or of a wrong type, or no purchase is left.
        """
        from topkin.api.fitting import fit_data

        tables = {
            name: as_table(value, name)
            for name, value in zip(IN_MEMORY, (purchases, items, users), strict=True)
            if value is not None
        }
        values = dict(self._values)
        typed, more = events_by_columns(values.get("events", {}), events, by_name=self._by_name)
        values |= {"events": typed} if typed else {}
        tables |= more
        for name in IN_MEMORY:
            if name in values and name not in tables:
                raise ConfigError(f"the settings have a section [{name}]: give fit its table, or leave the section out")
            if name in tables:
                section = {**values.get(name, {}), "path": name}
                values[name] = named_by_columns(name, section, tables[name]) if self._by_name else section
        bought = values["purchases"]
        if bought.get("order") is not None and "split" not in values.get("prepare", {}):
            values["prepare"] = {**values.get("prepare", {}), "split": "time"}  # nothing is judged here: all is known
        settings = settings_of(values, "Recommender")
        prepared, moment_of = prepare_tables(settings, tables, None if as_of is None else parse_as_of(as_of, "as_of"))
        self._set(fit_data(settings, prepared, moment_of))
        return self

    def recommend(self, users: Ids | None = None, k: int | None = None) -> pa.Table:
        """The best items of each user, under the rules of the settings.

        Args:
            users: A user's id, or some, as an array, a series or a list; all users by default.
            k: The most items of a user, ``recommend.k`` by default. A loaded run looks up its published lists, and
                computes only longer ones.

        Returns:
            A table with user_id, rank (from 1), item_id, score (cosine), source, times_bought and because, which the
            documentation has under *Artifacts*; users in the order of the question, once each, or all by id.

        Raises:
            InputError: A user is not in the data.
        """
        return self._table("recommendations", users, k, self._known.settings.recommend.k)

    def similar_items(self, items: Ids | None = None, k: int | None = None) -> pa.Table:
        """The items of most alike buyers and content, by the cosine of their embeddings without popularity.

        Args:
            items: An item's id, or some; all items by default.
            k: The most neighbours of an item, ``similar.items`` by default.

        Returns:
            A table with item_id, rank (from 1), neighbour_id and score (cosine).

        Raises:
            InputError: An item is not in the catalogue.
        """
        return self._table("similar_items", items, k, self._known.settings.similar.items)

    def similar_users(self, users: Ids | None = None, k: int | None = None) -> pa.Table:
        """The users of most similar preferences; as :meth:`similar_items`, with ``similar.users`` by default.

        Returns:
            A table with user_id, rank (from 1), neighbour_id and score (cosine).
        """
        return self._table("similar_users", users, k, self._known.settings.similar.users)

    def explain(self, user: Ids, item: Ids) -> pa.Table:
        """The purchases that speak for an item, listed or not, with their shares of the user's score of it.

        Args:
            user: A user's id.
            item: An item's id.

        Returns:
            A table with item_id (bought) and share (float32), largest first, of the purchases with a share above zero.
            All shares together, the others too, add up to the score; where users have features, to that part of it that
            these do not say.

        Raises:
            InputError: The user or the item is not in the data.
            ConfigError: The lists are those of a baseline.
        """
        return self._answers.explanation(*self._pair(user, item, "explain"))

    def why(self, user: Ids, item: Ids) -> "Placement":
        """Where an item stands for a user: its rank and score in the list, or every rule that keeps it out.

        Args:
            user: A user's id.
            item: An item's id.

        Returns:
            ``rank``, ``score``, ``source`` and ``listed`` of the list; ``why_not``, texts, empty where the item is in
            it; ``cosine``, ``place`` and ``candidates`` by the encoder alone; ``shares`` as of :meth:`explain`.

        Raises:
            InputError: The user or the item is not in the data.
        """
        users, items = self._pair(user, item, "why")
        return self._answers.placement(users, items, self.recommend(users))

    def _pair(self, user: Ids, item: Ids, method: str) -> tuple[pa.Array, pa.Array]:
        users, items = as_ids(user, self._known.user_type, "users"), as_ids(item, self._item_type, "items")
        if len(users) != 1 or len(items) != 1:
            raise ValueError(
                f"{method} takes one user and one item, got {len(users)} and {len(items)}: call it for each"
            )
        return users, items

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the recommender into a folder of its own, for :meth:`load` and :func:`topkin.open_run`.

        It has the layout of a run's stages prepare, train and embed, sealed by checksums; saved once more into the same
        folder it replaces the one before in one step.

        Args:
            path: The folder, local or a URI.

        Raises:
            ConfigError: The folder holds other files, or the recommender was loaded: copy its folder.
        """
        from topkin.api.fitting import save_data

        data = self._known
        if not isinstance(data, FittedData):
            raise ConfigError(f"a fitted recommender can be saved, {self!r} was loaded: copy its folder")
        save_data(data, os.fspath(path))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """A recommender that :meth:`save` wrote, or a published run; neither Beam nor TensorFlow is imported.

        Args:
            path: As of :func:`topkin.open_run`.

        Raises:
            ArtifactError: Nothing is published there, or a file is missing, damaged or of another encoder.
        """
        run = open_run(path)
        recommender = cls(run.settings)
        recommender._set(StoredData(run))
        return recommender

    @property
    def users(self) -> pa.Array:
        """The ids of all users, ascending."""
        return self._known.histories["user_id"].combine_chunks().sort()

    @property
    def items(self) -> pa.Array:
        """The ids of all items, ascending."""
        return self._known.catalogue["item_id"].combine_chunks()

    @property
    def as_of(self) -> datetime:
        """The date as of which lists are made, naive UTC."""
        return self._known.as_of

    def _set(self, data: RecommenderData) -> None:
        self._data = data
        self.__dict__.pop("_answers", None)

    @property
    def _known(self) -> RecommenderData:
        if self._data is None:
            raise RuntimeError("a recommender answers after it was fitted or loaded: call fit(purchases) first")
        return self._data

    @property
    def _item_type(self) -> pa.DataType:
        return self._known.catalogue.schema.field("item_id").type

    @cached_property
    def _answers(self) -> Answers:
        return Answers(self._known)

    def _table(self, name: str, ids: Ids | None, k: int | None, default: int) -> pa.Table:
        k = default if k is None else k
        if isinstance(k, bool) or not isinstance(k, int) or k < 1:
            raise ValueError(
                f"k must be a whole number of at least 1, got {k!r}: leave it out for the {default} of the settings"
            )
        if ids is not None:
            kind = self._item_type if name == "similar_items" else self._known.user_type
            ids = as_ids(ids, kind, "items" if name == "similar_items" else "users").unique()
        published = self._data.published(name, ids, k) if isinstance(self._data, StoredData) else None
        return getattr(self._answers, name)(ids, k) if published is None else published


def _merged(values: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Sections of settings, those of ``more`` over the others key by key."""
    both = {name: (values.get(name), more.get(name, values.get(name))) for name in {**values, **more}}
    return {n: {**a, **b} if isinstance(a, Mapping) and isinstance(b, Mapping) else b for n, (a, b) in both.items()}

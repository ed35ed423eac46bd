"""Where an item stands for one user: in the list, with the purchases that speak for it, or why it is not there."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from topkin.artifacts import schemas
from topkin.config.sections import RecommendSettings
from topkin.encoding.blocks import PROFILE, by_purchases
from topkin.interactions import Interactions, encode_ids
from topkin.recommend.because_events import strongest_events
from topkin.recommend.bought import BOUGHT, excluded_items
from topkin.recommend.explain import ExplainableScores
from topkin.recommend.rules.columns import column
from topkin.recommend.rules.eligibility import cooldown_days, read_item_lists
from topkin.recommend.rules.eligible import held
from topkin.recommend.rules.shop import capacities, valid_items

CHUNK = 1 << 16


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Where an item stands for a user.

    Args:
        rank, score, source: Of the list; None where the item is not in it. The score is a cosine, of a list of what
            sells the purchases counted.
        listed: Items in the list.
        why_not: Every rule that keeps the item out of the list, and where it stands behind it; empty where it is in it.
        cosine, place, candidates: Of the encoder alone: its score, and the place by it among as many items that the
            user may get; None where the encoder does not know the user, or makes no lists.
        shares: item_id (bought), share (float32) and maybe event: the purchases that speak for it, largest first.
    """

    rank: int | None
    score: float | None
    source: str | None
    listed: int
    why_not: tuple[str, ...]
    cosine: float | None
    place: int | None
    candidates: int | None
    shares: pa.Table


def shares_of(
    scores: ExplainableScores, history: pa.Table, ids: pa.Array, vector: np.ndarray, item: int, as_of: datetime
) -> pa.Table:
    """The purchases of one user that speak for an item, largest share of its score first.

    Args:
        scores: How users were pooled.
        history: ``schemas.histories``, the user's row.
        ids: Of all items.
        vector: (dim,) float32, the user's.
        item: The item's number.
        as_of: When purchases end.

    Returns:
        item_id, share (float32) and, where there are other events, event.
    """
    own = Interactions.from_histories(history, ids, as_of)
    bought, shares = scores.shares(own, np.array([[item]], np.int32), max(len(own.pooled.items), 1))
    if any(block.name == PROFILE for block in scores.blocks):  # the rest of the score is not of purchases
        shares = shares * by_purchases(vector[None, :], scores.blocks)
    reasons = bought[0, 0] >= 0
    named = ids.take(pa.array(bought[0, 0][reasons]))
    table = pa.table({"item_id": named, "share": shares[0, 0][reasons]})
    if own.inputs is None:
        return table
    return table.append_column("event", strongest_events(history, np.zeros(len(named), np.int64), named))


def placement(
    *,
    catalogue: pa.Table,
    settings: RecommendSettings,
    as_of: datetime,
    history: pa.Table,
    listed: pa.Table,
    vector: np.ndarray,
    scores: ExplainableScores,
    item: int,
    timed: bool = True,
) -> Placement:
    """Where an item stands for a user.

    Args:
        catalogue: ``schemas.catalogue``, all items.
        settings: By which the list was made.
        as_of: When purchases end.
        history: ``schemas.histories``, the user's row.
        listed: ``schemas.recommendations``, the user's rows.
        vector: (dim,) float32, the user's; zero where the encoder does not know the user.
        scores: The items' vectors.
        item: The item's number.
        timed: Whether the times are true, and no stand-ins for an order.
    """
    ids = catalogue["item_id"].combine_chunks()
    row = listed.filter(pc.equal(listed["item_id"], ids[item])).to_pylist()
    by_encoder = settings.baseline is None and bool(vector.any())
    may, rules = _may(catalogue, settings, as_of, history, item, timed=timed)
    cosine = place = None
    shares = pa.table({"item_id": ids[:0], "share": pa.array([], pa.float32())})
    if by_encoder:
        cosine, place = _place(scores, vector, may, item)
        shares = shares_of(scores, history, ids, vector, item, as_of)
    why_not: Sequence[str] = ()
    if not row:
        why_not = rules or _beyond(settings, listed, catalogue, item, place, int(may.sum()), history)
    return Placement(
        rank=row[0]["rank"] if row else None,
        score=row[0]["score"] if row else None,
        source=row[0]["source"] if row else None,
        listed=len(listed),
        why_not=tuple(why_not),
        cosine=cosine,
        place=None if rules else place,
        candidates=int(may.sum()) if by_encoder else None,
        shares=shares,
    )


def _may(
    catalogue: pa.Table, settings: RecommendSettings, as_of: datetime, history: pa.Table, item: int, *, timed: bool
) -> tuple[np.ndarray, list[str]]:
    """The items that the user may get, (n_items,) bool, and each rule that keeps one item out."""
    ids = catalogue["item_id"]
    may, why = np.ones(len(catalogue), bool), []

    def only(allowed: np.ndarray, otherwise: str) -> None:
        if not allowed[item]:
            why.append(otherwise)
        np.logical_and(may, allowed, out=may)

    only(np.asarray(catalogue["available"], bool), "it is not available in the catalogue")
    for name, listed in read_item_lists(settings, ids.type).items():
        on = encode_ids(ids, listed.unique()) >= 0
        path = getattr(settings, name)
        only(on if name == "allow" else ~on, f"it is {'not ' * (name == 'allow')}on the list recommend.{name} = {path}")
    named = ", ".join(key for key in (settings.valid_from, settings.valid_to) if key)
    only(valid_items(settings, catalogue, as_of), f"it is not valid as of {as_of:%Y-%m-%d}, by {named}")
    if (left := capacities(settings, catalogue)) is not None:
        only(left > 0, f"none is left of it, by recommend.capacity = {settings.capacity}")
    for rule in held(settings, catalogue):
        mask = rule.mask(int(rule.users(history)[0]))
        only(mask, f"{rule.key} lists it for users of another {rule.user}")
    own = Interactions.from_histories(history, ids, as_of)
    days = cooldown_days(catalogue["category"], settings.cooldown_days, settings.cooldown_by_category)
    out = np.ones(len(catalogue), bool)
    out[excluded_items(own, settings.bought, days).indices] = False
    only(out, _bought(own, settings, as_of, float(days[item]), item, timed=timed))
    return may, why


def _bought(
    own: Interactions, settings: RecommendSettings, as_of: datetime, days: float, item: int, *, timed: bool
) -> str:
    ages = own.ages[own.items == item]
    if not len(ages):
        return ""
    last = np.datetime64(as_of, "s") - np.timedelta64(round(float(ages.min()) * 86_400), "s")
    rule = f'by recommend.bought = "{settings.bought}" {BOUGHT[settings.bought].meaning}'
    again = f", here {days:g} days" if settings.bought == "cooldown" else ""
    times = f"{len(ages):,} time{'s' * (len(ages) > 1)}"
    times += f", last on {np.datetime_as_string(last, 'D')}" if timed else ""
    return f"the user bought it {times}: {rule}{again}"


def _place(scores: ExplainableScores, vector: np.ndarray, may: np.ndarray, item: int) -> tuple[float, int]:
    """An item's cosine, and its place by it among the items that the user may get, from 1."""
    own = float(scores.vectors[np.array([item])][0] @ vector)
    above = 0
    for first in range(0, len(may), CHUNK):
        numbers = np.arange(first, min(first + CHUNK, len(may)))
        better = scores.vectors[numbers] @ vector > own
        above += int((better & may[numbers] & (numbers != item)).sum())
    return own, above + 1


def _beyond(
    settings: RecommendSettings,
    listed: pa.Table,
    catalogue: pa.Table,
    item: int,
    place: int | None,
    candidates: int,
    history: pa.Table,
) -> list[str]:
    """Why an item that the user may get is not in the list."""
    n = len(listed)
    if not n:
        return ["the user has no list"]
    if listed["source"][0].as_py() != schemas.SOURCES[0]:
        bought, least = len(history["items"][0]), settings.min_history
        few = f"has {bought:,} purchases, fewer than recommend.min_history = {least}"
        few = few if bought < least else "is not known to the model"
        return [f"the list is of what sells, for the user {few}: its {n} items sell more"]
    if place is None:
        return [f"the list's {n} items have a higher score by {settings.model}, which made the list"]
    why = []
    for name, most in settings.max_per.items():
        values, numbers = column(catalogue, name), encode_ids(listed["item_id"], catalogue["item_id"])
        value = values[item].as_py()
        same = sum(values[int(number)].as_py() == value for number in numbers)
        if value is not None and same >= most:
            why.append(f"the list has {same} of {name} {value!r}, and recommend.max_per.{name} = {most}")
    if place > n:
        return [*why, f"it is in place {place:,} of {candidates:,} by the encoder's score, and the list ends at {n}"]
    others = [key for key in ("diversity", "capacity", "not_shown_nights", "new_items") if getattr(settings, key)]
    others += ["bought"] if BOUGHT[settings.bought].weights is not None else []
    others += ["sources"] if settings.sources else []
    rules = f", by {' and '.join(f'recommend.{key}' for key in others)}" if others else ""
    return why or [f"it is in place {place:,} by the encoder's score, and others were put before it{rules}"]

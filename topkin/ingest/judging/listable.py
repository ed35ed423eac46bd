"""Whether the rules of a list leave any item of the shop, which is told before a run makes lists without one."""

from collections.abc import Callable, Mapping

import numpy as np
import pyarrow as pa

from topkin.config.sections import RecommendSettings
from topkin.errors import InputError
from topkin.ingest import readers
from topkin.ingest.catalogue import catalogue, sales_schema, with_unsold
from topkin.ingest.cleaning import one_of_each_id
from topkin.ingest.contract import Inspection
from topkin.ingest.files import FILE, ROW, Files, batches
from topkin.ingest.joins.read import WHOLE, read_ids
from topkin.ingest.prepare import PreparePlan
from topkin.ingest.readers import escape_invalid_utf8
from topkin.recommend.rules.eligibility import allowed_items
from topkin.recommend.rules.eligible import held
from topkin.recommend.rules.shop import capacities, valid_items

RULES = ("allow", "allow_column", "deny", "deny_column", "valid_from", "valid_to", "capacity", "eligible")
"""Keys of a list that may leave it no item at all."""

Inputs = Mapping[str, Inspection]


def nothing_listable(
    rules: RecommendSettings,
    lists: Mapping[str, pa.ChunkedArray],
    inputs: Inputs,
    plan: PreparePlan,
    files: Callable[[str], Files],
) -> InputError | None:
    """What is wrong where no item of the shop may be recommended to any user.

    None where there is one, where the list has no such rule, or where an input has more rows
    than are looked at in whole: a sample cannot say it.

    Args:
        rules: of the list.
        lists: the ids of its item lists, by ``allow`` and ``deny``.
        inputs: by name, without a fault.
        plan: how their rows are cleaned.
        files: what opens the files of an input's path.
    """
    if not any(getattr(rules, key) not in (None, {}) for key in RULES if not key.endswith("_column")):
        return None  # what no rule takes away, the joins tell
    if any(inspection.rows_judged > WHOLE for inspection in inputs.values()):
        return None
    shop = _shop(inputs, plan, files)
    allowed = allowed_items(shop, **lists)
    gone = {key: n for key, n in _by_list(allowed.filtered_counts).items() if n}
    left = allowed.mask
    for key, holds in _by_rule(rules, shop, inputs, plan, files):
        if n := int((left & ~holds).sum()):
            gone[key] = n
        left = left & holds
    if left.any() or not len(shop):
        return None
    *_, last = gone
    taken = ", ".join(f"{n:,} by {key}" for key, n in gone.items())
    return InputError(
        f"{last}: some item of the shop must be left to recommend, got {len(shop):,} items of which none is "
        f"(taken away {taken}), so that every list would be empty: let {last} leave some, or drop it"
    )


def _by_list(counts: Mapping[str, int]) -> dict[str, int]:
    keys = {"unavailable": "items.available", "denied": "recommend.deny", "not_allowed": "recommend.allow"}
    return {keys[rule]: n for rule, n in counts.items()}


def _by_rule(
    rules: RecommendSettings, shop: pa.Table, inputs: Inputs, plan: PreparePlan, files: Callable[[str], Files]
) -> list[tuple[str, np.ndarray]]:
    """The key of each rule of the shop, and the items that it leaves to some user, (n_items,) bool."""
    masks = []
    for key in ("valid_from", "valid_to"):
        alone = rules.model_copy(update={other: None for other in ("valid_from", "valid_to") if other != key})
        masks.append((f"recommend.{key}", valid_items(alone, shop, plan.as_of)))
    if (stock := capacities(rules, shop)) is not None:
        masks.append(("recommend.capacity", stock > 0))
    for rule in held(rules, shop):
        if rule.user != "segment" and "users" not in inputs:
            continue  # of no user is anything known
        holds = rule.free.copy()
        users = _users(rule.user == "segment", inputs, plan, files)
        for label in np.unique(rule.users(users)):
            holds |= rule.mask(int(label))
        masks.append((rule.key, holds))
    return masks


def _cleaned(name: str, inputs: Inputs, plan: PreparePlan, files: Callable[[str], Files]) -> pa.Table:
    """The accepted rows of items or users."""
    inspection = inputs[name]
    source = inspection.source
    tables = [
        plan.clean(name, rows).accepted
        for file in inspection.files
        for rows in batches(name, file, files(source.path), inspection.columns, rows=1 << 17)
    ]
    return one_of_each_id(pa.concat_tables([plan.rows(name).empty_table(), *tables]), source).accepted


def _shop(inputs: Inputs, plan: PreparePlan, files: Callable[[str], Files]) -> pa.Table:
    """The catalogue as ``prepare`` makes it, without its sales: the items' table, and what was sold beside it."""
    of_sold = sales_schema(plan.item_type).empty_table()
    for name in (n for n in inputs if n not in ("items", "users", "heldout")):
        bought = read_ids(inputs[name], "item_id", files(inputs[name].source.path))
        of_sold = with_unsold(of_sold, pa.chunked_array([bought.counts.ids], plan.item_type))
    items = _cleaned("items", inputs, plan, files) if "items" in inputs else None
    return catalogue(of_sold, items, missing_available=plan.missing == "list")


def _users(by_segment: bool, inputs: Inputs, plan: PreparePlan, files: Callable[[str], Files]) -> pa.Table:
    """The users' segments or features: those of their table, and the segments that purchases name."""
    if not by_segment:
        return _cleaned("users", inputs, plan, files)
    segments = [pa.chunked_array([], pa.string())]
    if "users" in inputs:
        segments.append(_cleaned("users", inputs, plan, files)["segment"])
    purchases = inputs.get("purchases")
    column = None if purchases is None else purchases.source.column("segment")
    if purchases is not None and column is not None:
        source = purchases.source
        for file in purchases.files:
            for rows in batches("purchases", file, files(source.path), purchases.columns, rows=1 << 17):
                readable = escape_invalid_utf8(rows.drop_columns([FILE, ROW])).rows
                segments.append(readers.labels(source.rules.normalised(readable)[column]))
    return pa.table({"segment": pa.chunked_array([c for s in segments for c in s.chunks], pa.string())})

"""Columns that say what became of a row: its status, its type, a flag, the time of a cancellation."""

from collections.abc import Collection, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from topkin.artifacts.ids import decoded, value_kind
from topkin.ingest.inference.columns import ColumnProfile, SuggestedRule, name_words
from topkin.ingest.sql import literal, query, quoted_if_needed

_MOST = 40
"""Different values up to which a column may be one of states."""

UNDONE = (
    "cancel", "canceled", "cancelled", "cancellation", "return", "returned", "refund", "refunded", "reversed",
    "void", "voided", "failed", "failure", "declined", "denied", "rejected", "expired", "abandoned", "fraud",
    "chargeback", "storno", "test", "deleted", "error", "aborted", "not paid", "unpaid", "credit", "credit memo",
    "closed by buyer",
)  # fmt: skip
"""Values that say that a purchase was none, or was taken back."""
BOUGHT = (
    "purchase", "purchased", "buy", "bought", "order", "ordered", "transaction", "checkout", "sale", "sold", "paid",
    "order completed", "checkout completed", "complete purchase", "conversion", "in app purchase",
)  # fmt: skip
"""Values that say that something was bought."""
USED = (
    "play", "played", "listen", "listened", "watch", "watched", "stream", "streamed", "read", "download", "downloaded",
    "complete", "completed", "finish", "finished", "borrow", "borrowed", "loan", "checkout", "install",
)  # fmt: skip
"""Values that say that something was used, where nothing is bought."""
LOOKED_AT = (
    "view", "viewed", "page view", "pageview", "view item", "item view", "product view", "detail", "detail view",
    "impression", "click", "clicked", "search", "scroll", "hover", "cart", "add to cart", "addtocart",
    "remove from cart", "removefromcart", "begin checkout", "wishlist", "add to wishlist", "favorite", "like",
    "dislike", "share", "skip", "skipped", "pause", "session start", "preview", "open", "select item", "view cart",
    "view item list",
)  # fmt: skip
"""Values that say that somebody looked."""
_UNDONE_WORDS = {word for word in UNDONE if " " not in word} - {"credit", "error", "test", "expired"}
_NOT_YET = {
    "not", "no", "non", "never", "without", "partial", "partially", "partly", "request", "requested", "period",
    "window", "policy", "eligible", "label", "pending",
}  # fmt: skip
"""Words beside those that leave the purchase one."""
_STATE_WORDS = {
    "status", "state", "type", "event", "action", "kind", "fulfillment", "financial", "disposition", "behavior",
    "behaviour",
}  # fmt: skip
_FLAG_WORDS = {
    "cancelled", "canceled", "cancel", "returned", "return", "refunded", "refund", "voided", "void", "deleted", "test",
    "fraud", "fraudulent", "reversed", "chargeback",
}  # fmt: skip
_YES_NO = (("Y", "N"), ("YES", "NO"), ("TRUE", "FALSE"), ("T", "F"), ("1", "0"))


def suggest_states(table: Sequence[ColumnProfile], sample: pa.Table, used: Collection[str]) -> list[SuggestedRule]:
    """Rules for rows whose status or type says that nothing was bought, with the count of each value as the reason.

    used: columns that are something else.
    """
    rules = []
    for column in table:
        if column.name in used or not len(column.values):
            continue
        kind = value_kind(column.type)
        words = set(name_words(column.name))
        if kind == "text" and words & _FLAG_WORDS and (yes := _yes_of(column)):
            condition = f"coalesce(upper(trim({quoted_if_needed(column.name)})), '') <> {literal(yes)}"
            rules += _of_flag(column, sample, yes, condition)
        elif kind == "text" and column.distinct <= _MOST:
            rules += _of_values(column, sample)
        elif kind == "boolean" and words & _FLAG_WORDS:
            rules += _of_flag(column, sample, "true", f"NOT coalesce({quoted_if_needed(column.name)}, false)")
        elif kind == "integer" and words & _FLAG_WORDS and _only_flags(column):
            rules += _of_flag(column, sample, "1", f"coalesce({quoted_if_needed(column.name)}, 0) = 0")
        elif kind == "time" and words & _FLAG_WORDS and column.nulls:
            rules += _of_flag(column, sample, "set", f"{quoted_if_needed(column.name)} IS NULL")
    return rules


def _word(value: str) -> str:
    """A value as the lists above have it."""
    return " ".join(name_words(value))


def _says_undone(value: str) -> bool:
    """Whether one word of several says so, as in ``wc-cancelled`` or ``Shipped - Returned to Seller``."""
    words = set(name_words(value))
    return bool(words & _UNDONE_WORDS) and not words & _NOT_YET


def _of_values(column: ColumnProfile, sample: pa.Table) -> list[SuggestedRule]:
    counts = pc.value_counts(decoded(column.values).combine_chunks()).to_pylist()
    counts.sort(key=lambda c: (-c["counts"], c["values"]))
    listed = ", ".join(f"{c['counts']:,} {c['values']}" for c in counts[:6])
    listed += f", {len(counts) - 6:,} more values" if len(counts) > 6 else ""
    listed += f", {column.nulls:,} null" if column.nulls else ""
    values = [c["values"] for c in counts]
    by_name = bool(set(name_words(column.name)) & _STATE_WORDS)
    bought, used, looked = ([v for v in values if _word(v) in words] for words in (BOUGHT, USED, LOOKED_AT))
    undone = [v for v in values if _word(v) in UNDONE or (by_name and _says_undone(v))]
    name = quoted_if_needed(column.name)
    if looked and (by_name or len(looked) + len(bought) + len(used) >= 0.5 * len(values)):
        kept = bought or used
        if kept:
            rule = f"{name} = {literal(kept[0])}" if len(kept) == 1 else f"{name} IN ({_list(kept)})"
            why = f"{column.name}: {listed}; in its place purchases.event_type lets them weigh"
            return [SuggestedRule("nothing bought", rule, why)]
        if len(looked) < len(values):
            return [
                SuggestedRule(
                    "nothing bought", f"{_or_empty(name, column)} NOT IN ({_list(looked)})", f"{column.name}: {listed}"
                )
            ]
        return []
    if undone and len(undone) < len(values) and (by_name or len(values) <= 12):
        shown = undone[0] if len(undone) == 1 else "cancelled or returned"
        rule = f"{_or_empty(name, column)} <> {literal(undone[0])}"
        if len(undone) > 1:
            rule = f"{_or_empty(name, column)} NOT IN ({_list(undone)})"
        return [SuggestedRule(_reason(shown, column.name), rule, f"{column.name}: {listed}")]
    return []


def _reason(what: str, column: str) -> str:
    return f"{what.lower()} ({column})"


def _list(values: Sequence[str]) -> str:
    return ", ".join(literal(v) for v in values)


def _or_empty(name: str, column: ColumnProfile) -> str:
    """The column, its nulls no reason to reject."""
    return f"coalesce({name}, '')" if column.nulls else name


def _yes_of(column: ColumnProfile) -> str | None:
    """The word for yes, in capitals, of a column that has it and a word for no; None for another column."""
    values = set(pc.unique(pc.utf8_upper(pc.utf8_trim_whitespace(decoded(column.values)))).to_pylist())
    return next((yes for yes, no in _YES_NO if yes in values and values <= {yes, no, ""}), None)


def _only_flags(column: ColumnProfile) -> bool:
    span = pc.min_max(column.values).as_py()
    return span["min"] >= 0 and span["max"] <= 1


def _of_flag(column: ColumnProfile, sample: pa.Table, value: str, rule: str) -> list[SuggestedRule]:
    n = int(query(f"SELECT count(*) AS n FROM rows WHERE NOT ({rule})", sample)["n"][0].as_py())
    if not 0 < n < len(sample):
        return []
    what = next(w for w in name_words(column.name) if w in _FLAG_WORDS)
    return [
        SuggestedRule(
            _reason(what, column.name), rule, f"{column.name} is {value} in {n / len(sample):.1%} of the rows looked at"
        )
    ]

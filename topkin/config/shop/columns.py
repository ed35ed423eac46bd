"""Which columns the published tables have beside their own, and whether the tables behind them are there."""

from typing import TYPE_CHECKING

from topkin.errors import nearest_name

if TYPE_CHECKING:
    from topkin.config.sections import Settings
    from topkin.config.shop.lists import RecommendSettings

PLAIN = ("title", "category", "price")
"""Columns of ``[items]`` that are kept under these names; the others are names of ``items.features``."""
FINAL, SHARES = "final", "because_shares"
COMPUTED = (FINAL, SHARES)
"""Columns of lists that are no item's: what orders the list, and how much of the score each reason gave."""
_OWN = "user_id rank item_id neighbour_id score source times_bought because because_events decided support date"
TAKEN = frozenset((*_OWN.split(), *COMPUTED))


def unkept(settings: "Settings", own_list: "RecommendSettings | None" = None) -> str | None:
    """What is wrong with ``recommend.columns``, or a list's own, or ``similar.columns``; None where all is well."""
    items, lists = settings.items, own_list or settings.recommend
    own = {} if items is None else items.features
    known = [*(c for c in PLAIN if items is not None and getattr(items, c)), *own]
    for key, columns, more in (
        ("recommend.columns", lists.columns, COMPUTED),
        ("similar.columns", settings.similar.columns, ()),
    ):
        for name in columns:
            if columns.count(name) > 1:
                return f"{key} must name a column once, got {name!r} twice: drop one"
            if name in TAKEN and name not in more:
                return f"{key} must name columns that the table has not, got {name!r}: name the feature otherwise"
            if name not in (*known, *more):
                near = nearest_name(name, [*known, *more])
                hint = f", did you mean {near!r}?" if near else ""
                return (
                    f"{key} must name a column of items that is kept, {', '.join([*known, *more]) or 'there is none'}; "
                    f"got {name!r}{hint}: items.features.{name} keeps one, with learn = false for the tables alone"
                )
    if SHARES in lists.columns and (lists.baseline is not None or not lists.because):
        came = f'recommend.model = "{lists.model}"' if lists.baseline is not None else "recommend.because = 0"
        return f"recommend.columns has {SHARES}, which are of the encoder's scores and of because, got {came}: drop one"
    return None

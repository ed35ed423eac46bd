"""What becomes of items that the user bought before: one entry for each value of ``recommend.bought``.

To add a rule, name it in ``config.shop.lists.RecommendSettings.bought`` and describe it here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from topkin.config.sections import RecommendSettings
from topkin.interactions import Interactions
from topkin.linalg.csr import Csr
from topkin.recommend.repurchase.blend import Weights

FEW_UNBOUGHT = "without the items that the user bought, fewer than k are left"
FEW_COOL = "without the items that the user bought within their cool-down, fewer than k are left"


@dataclass(frozen=True, kw_only=True)
class BoughtRule:
    """A rule for bought items.

    Args:
        meaning: What it does, for the report.
        judged: How purchases of bought items count when the lists are judged, for the report.
        excludes: From the age of purchases in days and the cool-down of their items, (n,) float32 both, to those whose
            item is not listed, (n,) bool; None where every item may be listed.
        shortfall: Why a list is short that the rule left too few items.
        counts: Whether a listed item may have been bought before, so that its row says how often it was.
        weights: By which the user's own items rank beside new ones, unless validation or the settings say otherwise;
            None where the model's order is kept.
        fixed: Names of those weights that validation does not choose.
        protocol: The lists that the verdict is on: of ``all`` items, or of ``novel`` ones.
    """

    meaning: str
    judged: str
    excludes: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None
    shortfall: str = FEW_UNBOUGHT
    counts: bool = True
    weights: Weights | None = None
    fixed: tuple[str, ...] = ()
    protocol: str = "novel"


BOUGHT: Mapping[str, BoughtRule] = {
    "exclude": BoughtRule(
        meaning="bought items are never listed",
        judged="bought again they do not count as true",
        excludes=lambda ages, cooldown: np.ones(len(ages), bool),
        counts=False,
    ),
    "keep": BoughtRule(
        meaning="bought items may be listed",
        judged="all that was bought later is true",
        weights=Weights(),
        fixed=("due",),
        protocol="all",
    ),
    "cooldown": BoughtRule(
        meaning="bought items are listed again after the cool-down",
        judged="before it do not count as true",
        excludes=lambda ages, cooldown: ages < cooldown,  # the latest purchase is the youngest: it decides
        shortfall=FEW_COOL,
    ),
    "boost": BoughtRule(
        meaning="bought items may be listed, those due again first",
        judged="all that was bought later is true",
        weights=Weights(due=1.0),
        protocol="all",
    ),
}


def excluded_items(history: Interactions, bought: str, cooldown: np.ndarray) -> Csr:
    """The items that each user may not get because of the user's own purchases, ascending and distinct.

    Args:
        history: The users' purchases.
        bought: One of BOUGHT.
        cooldown: (n_items,) float32, days.

    Raises:
        ValueError: For another rule or a cooldown of another length.
    """
    if bought not in BOUGHT:
        raise ValueError(f"bought must be one of {', '.join(BOUGHT)}, got {bought!r}")
    if len(cooldown) != history.n_items:
        raise ValueError(f"cooldown must have one value an item ({history.n_items}), got {len(cooldown)}")
    excludes = BOUGHT[bought].excludes
    if excludes is None:
        return Csr.empty(history.n_users)
    out = excludes(history.ages, cooldown[history.items])
    return Csr.of_pairs(history.users[out], history.items[out], history.n_users, history.n_items)


def weights_of(settings: RecommendSettings, chosen: Mapping[str, Mapping[str, float]]) -> Weights | None:
    """The weights of bought items in the lists: those set, else those chosen on validation, else the rule's own.

    Args:
        settings: Of the lists; weights set there win.
        chosen: By rule, see ``repurchase.tuning.chosen``; empty without a validation.

    Returns:
        None where no item has a personal part: under rules without weights, and in a baseline's lists.
    """
    default = BOUGHT[settings.bought].weights
    if default is None or settings.baseline is not None:
        return None
    fixed = {
        "personal": settings.personal,
        "repeat": settings.personal_repeat,
        "recent": settings.personal_recent,
        "due": settings.personal_due,
        "fade": settings.personal_fade,
    }
    weights = {**default.to_json(), **chosen.get(settings.bought, {})}
    return Weights(**weights | {name: value for name, value in fixed.items() if value is not None})

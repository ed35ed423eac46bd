"""What the customers of the generated shop look at: more than they buy, and a little less to their taste."""

from dataclasses import replace

import numpy as np

from topkin.synthetic.customers import Customers, GeneratedPurchases, explore
from topkin.synthetic.items import GeneratedItems, on_grid

CURIOSITY = 0.75  # of a customer's taste, how much of it decides what is looked at
LOOKED = 0.8  # chance that a bought item was looked at just before
_MOST_MINUTES = 30.0


def draw_views(
    people: Customers,
    bought: GeneratedPurchases,
    items: GeneratedItems,
    *,
    per_purchase: float,
    n_days: int,
    rng: np.random.Generator,
) -> GeneratedPurchases:
    """The views of a block, sorted by customer and time: visits of their own, and of what is bought, just before.

    On a visit an item is viewed by P(item | customer, time) as it is bought, with CURIOSITY of the customer's taste.
    per_purchase: expected views on visits for each purchase that a customer explores.
    """
    curious = replace(people, activity=people.activity * per_purchase, taste=on_grid(people.taste * CURIOSITY))
    before = bought.take(rng.random(len(bought)) < LOOKED)
    views = GeneratedPurchases.concat([explore(curious, items, n_days, rng), before])
    views = views.replaced(day=np.maximum(views.day - rng.random(len(views)) * _MOST_MINUTES / 1440, 0))
    return views.take(np.lexsort((views.item, views.day, views.row)))

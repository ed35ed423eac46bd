"""The noise of the generated shop: what real purchase logs hold beside purchases.

Every kind is seen in UCI Online Retail. Lines are added to the good ones, which stay as they are but for the way
in which some codes are written: what prepare accepts is exactly what was planted.
"""

from dataclasses import dataclass, fields

import numpy as np

from topkin.synthetic.columns import Columns

KINDS = (
    "clean",
    "no user",
    "return",
    "cancelled",
    "write-off",
    "zero price",
    "negative price",
    "not a product",
    "duplicate",
    "repeated in invoice",
)
"""What a line is. Of these ``clean`` and ``repeated in invoice`` are purchases, a ``duplicate`` equals one."""

NON_PRODUCTS = {
    "POST": "POSTAGE",
    "DOT": "DOTCOM POSTAGE",
    "M": "Manual",
    "D": "Discount",
    "C2": "CARRIAGE",
    "BANK CHARGES": "Bank charges",
    "AMAZONFEE": "AMAZON FEE",
    "CRUK": "CRUK commission",
    "gift_0001_30": "Dotcomgiftshop gift voucher £30.00",
}
"""Codes that are no products, and their titles."""

NOTES = ("check", "?", "damaged", "found", "wet/rusty", "thrown away")
PLAIN, LOWER, PADDED = 0, 1, 2
_AFTER = 20_000  # added to the invoice's number: more invoices than a customer has


@dataclass(frozen=True, kw_only=True)
class NoiseRates:
    """How much of each kind there is: lines per good line, or share of the items, each from 0 to 1.

    Lines: ``no_user``, ``returns`` (negative quantity), ``cancelled`` (a whole line undone on a C invoice),
    ``write_offs`` (negative quantity at no price), ``zero_price``, ``negative_price``, ``non_products``
    (postage and the like), ``duplicates`` (equal in every column), ``repeated`` (the item once more in the
    invoice), ``lower_case`` and ``padded_codes`` (good lines whose code is written otherwise).
    Items: ``missing`` from the catalogue though sold, ``null_titles``, ``padded_titles``, ``notes`` (a
    warehouse note for a title), ``entities`` (``&amp;`` in the title).
    """

    no_user: float = 0.05
    returns: float = 0.01
    cancelled: float = 0.015
    write_offs: float = 0.003
    zero_price: float = 0.005
    negative_price: float = 0.001
    non_products: float = 0.01
    duplicates: float = 0.01
    repeated: float = 0.015
    lower_case: float = 0.01
    padded_codes: float = 0.01
    missing: float = 0.02
    null_titles: float = 0.02
    padded_titles: float = 0.15
    notes: float = 0.01
    entities: float = 0.05

    def __post_init__(self) -> None:
        for field in fields(self):
            share = getattr(self, field.name)
            if not 0 <= share <= 1:
                raise ValueError(f"noise.{field.name} must be from 0 to 1, got {share}")

    @classmethod
    def none(cls) -> "NoiseRates":
        """A shop whose every line and item is good."""
        return cls(**{f.name: 0.0 for f in fields(cls)})


@dataclass(frozen=True)
class Lines(Columns):
    """Invoice lines as arrays, (n,) each.

    ``user``: customer number, -1 for none. ``item``: item number; -1 - j is the j-th of :data:`NON_PRODUCTS`.
    ``written``: how the code is written. ``time``: int64 seconds from the shop's first. ``invoice``: its number, the
    same for all that a customer buys at a time. ``kind``: place in :data:`KINDS`.
    """

    user: np.ndarray
    item: np.ndarray
    written: np.ndarray
    quantity: np.ndarray
    price: np.ndarray
    time: np.ndarray
    country: np.ndarray
    invoice: np.ndarray
    kind: np.ndarray

    def copies(self, kind: str, **columns: np.ndarray | float) -> "Lines":
        """Copies that are of another kind and differ in some columns."""
        return self.replaced(**columns, kind=KINDS.index(kind))


def inject_noise(good: Lines, noise: NoiseRates, last: int, rng: np.random.Generator) -> Lines:
    """The good lines, some codes written otherwise, and noisy ones behind them.

    ``last`` is the shop's last second: what follows a purchase, such as its return, comes before it.
    """
    n = len(good)

    def some(share: float) -> np.ndarray:
        return np.sort(rng.permutation(n)[: rng.binomial(n, share)])

    written = good.written.copy()
    written[some(noise.lower_case)] = LOWER
    written[some(noise.padded_codes)] = PADDED
    good = good.replaced(written=written)

    def later(lines: Lines, days: float) -> np.ndarray:
        return np.minimum(lines.time + (86_400 * rng.exponential(days, len(lines))).astype(np.int64) + 1, last)

    parts = [good]
    lines = good.take(some(noise.no_user))
    parts.append(lines.copies("no user", user=-1))
    lines = good.take(some(noise.returns))
    number = lines.invoice + _AFTER
    parts.append(lines.copies("return", invoice=number, quantity=-lines.quantity, time=later(lines, 9)))
    lines = good.take(some(noise.cancelled))
    parts.append(
        lines.copies("cancelled", invoice=lines.invoice + 2 * _AFTER, quantity=-lines.quantity, time=later(lines, 0.01))
    )
    lines = good.take(some(noise.write_offs))
    parts.append(lines.copies("write-off", user=-1, quantity=-rng.integers(1, 500, len(lines)), price=0.0))
    lines = good.take(some(noise.zero_price))
    parts.append(lines.copies("zero price", price=0.0))
    lines = good.take(some(noise.negative_price))
    parts.append(lines.copies("negative price", price=-lines.price))
    lines = good.take(some(noise.non_products))
    lines = lines.take(np.unique(lines.invoice, return_index=True)[1])  # one fee an invoice
    what = -1 - rng.integers(len(NON_PRODUCTS), size=len(lines))
    fee = rng.choice([1.5, 18.0, 40.0], len(lines))
    parts.append(lines.copies("not a product", item=what, written=PLAIN, quantity=1, price=fee))
    parts.append(good.take(some(noise.duplicates)).copies("duplicate"))
    lines = good.take(some(noise.repeated))
    parts.append(lines.copies("repeated in invoice", quantity=lines.quantity + rng.integers(1, 4, len(lines))))
    return Lines.concat(parts)


def inject_title_noise(titles: list[str], noise: NoiseRates, rng: np.random.Generator) -> list[str | None]:
    """Titles as a catalogue holds them: null, padded, a note, with HTML entities."""
    fates = rng.random(len(titles))
    edges = np.cumsum([noise.null_titles, noise.notes, noise.entities, noise.padded_titles])
    noisy: list[str | None] = []
    for title, fate, pick in zip(titles, fates, rng.integers(len(NOTES), size=len(titles)), strict=True):
        if fate < edges[0]:
            noisy.append(None)
        elif fate < edges[1]:
            noisy.append(NOTES[pick])
        elif fate < edges[2]:
            head, tail = title.rsplit(" ", 1)
            noisy.append(f"{head} &amp; {tail}")
        elif fate < edges[3]:
            noisy.append(f"  {title} ")
        else:
            noisy.append(title)
    return noisy

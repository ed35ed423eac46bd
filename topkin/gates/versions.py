"""The gates that runs of any kind have: counts, rejects, ids, vectors and the index."""

from collections.abc import Iterator, Mapping
from typing import Any

from topkin.config.publish.settings import VersionGates
from topkin.gates.gate import NOTHING_LIVE, Gate, as_many, asked, at_least, at_most, not_asked, percent, risen

Figures = Mapping[str, Any]
FEW = 100
"""Purchases, users or vectors below which shares swing by chance."""


def counts(settings: VersionGates, now: Figures, live: Figures) -> Iterator[Gate]:
    """Rows, users, items, purchases: neither far fewer nor far more than live."""
    before = live.get("counts", {})
    for name in sorted({*now["counts"], *before}, key=lambda n: (not n.startswith("rows of"), n)):
        was, why = before.get(name), NOTHING_LIVE
        if live:
            few = name == "purchases a day" and before.get("purchases", 0) < FEW
            why = f"the live version has fewer than {FEW} purchases" if few else "the live version has none"
            was = None if few else was
        yield from as_many(name, now["counts"].get(name, 0), was, settings.max_drop, settings.max_growth, why=why)


def rejects(settings: VersionGates, now: Figures, live: Figures) -> Iterator[Gate]:
    """Of each input the reason whose share of the rows grew most."""
    if settings.max_rejected is False:
        return
    for source, shares in now["rejected"].items():
        name, before = f"rejects of {source}", live.get("rejected", {}).get(source)
        if before is None:
            yield not_asked(name, "max_rejected", f"the live version has no {source}" if live else NOTHING_LIVE)
        elif shares:
            worst = max(shares, key=lambda reason: (shares[reason] - before.get(reason, 0.0), reason))
            what = f"{{}} of the rows of {source} were rejected for {worst!r}"
            yield risen(name, "max_rejected", shares[worst], before.get(worst, 0.0), settings.max_rejected, what)


def unknown(settings: VersionGates, sides: Mapping[str, float | None], has_live: bool) -> Iterator[Gate]:
    """Of each side's ids, those that the live version does not know. sides: name to share."""
    if settings.max_unknown is False:
        return
    for name, share in sides.items():
        if share is None:
            yield not_asked(f"unknown {name}", "max_unknown", f"there are no {name}" if has_live else NOTHING_LIVE)
        else:
            what = f"{{}} of the {name} are unknown to the live version"
            yield at_most(f"unknown {name}", "max_unknown", share, settings.max_unknown, what, percent)


def vectors(settings: VersionGates, now: Figures, live: Figures) -> Iterator[Gate]:
    """Vectors are finite, spread over as many directions, and are as long as they were."""
    for side, drawn in now.get("vectors", {}).items():
        before = live.get("vectors", {}).get(side)
        if settings.max_not_finite is not False:
            what = f"{{}} of the {side}' vectors are not finite"
            yield at_most(
                f"finite vectors of {side}",
                "max_not_finite",
                drawn["not_finite"],
                settings.max_not_finite,
                what,
                percent,
            )
        if settings.min_spread is not False:
            yield _spread(settings.min_spread, side, drawn, before)
    if settings.same_dim and "dim" in now:
        yield _length(now, live)


def _spread(least: float, side: str, drawn: Figures, before: Figures | None) -> Gate:
    name, key, rank = f"spread of {side}' vectors", "min_spread", drawn["rank"]
    if drawn["vectors"] < FEW:
        return not_asked(name, key, f"fewer than {FEW} {side} have a vector")
    own = f"the {side}' vectors have an effective rank of {rank:.3g}"
    if rank < 1 + 1e-3:
        return asked(name, key, False, f"{own}: all of them are one (publish.{key})", figure=rank)
    if before is None or before["vectors"] < FEW:
        return asked(name, key, True, f"{own}; nothing live to compare", figure=rank)
    sentence = f"{own}, {before['rank']:.3g} in the live version; publish.{key} asks for {percent(least)} of it"
    limit = least * before["rank"]
    return asked(name, key, rank >= limit, sentence, figure=rank, limit=limit, live=before["rank"])


def _length(now: Figures, live: Figures) -> Gate:
    name, key = "length of vectors", "same_dim"
    if "dim" not in live:
        return not_asked(name, key, NOTHING_LIVE)
    if now["blocks"] != live["blocks"]:
        return not_asked(name, key, f"validation chose other blocks: {', '.join(now['blocks'])}")
    few = min(
        version["counts"].get(name, 0)
        for version in (now, live)
        for name in ("items", "users")
        if name in version["counts"]
    )
    if few < 2 * max(now["dim"], live["dim"]):
        return not_asked(name, key, "there are fewer than two items and users for each coordinate")
    sentence = f"vectors have {now['dim']} coordinates, {live['dim']} in the live version (publish.{key})"
    return asked(name, key, now["dim"] == live["dim"], sentence, figure=now["dim"], live=live["dim"])


def index(settings: VersionGates, now: Figures) -> Iterator[Gate]:
    """The index finds what exact search finds."""
    if settings.min_recall is False:
        return
    recall = now.get("recall")
    if recall is None:
        yield not_asked("recall of the index", "min_recall", "it was not measured")
        return
    what = f"recall@{recall['k']} of the index {{}} (95 % interval {recall['low']:.3f} to {recall['high']:.3f})"
    sentence = what.format(f"{recall['share']:.4f}") + f"; publish.min_recall asks for {settings.min_recall:g}"
    yield asked(
        "recall of the index",
        "min_recall",
        recall["high"] >= settings.min_recall,
        sentence,
        figure=recall["share"],
        limit=settings.min_recall,
    )


def least(name: str, key: str, figure: float, limit: float, what: str) -> Iterator[Gate]:
    """A count that must reach a limit."""
    yield at_least(name, key, figure, limit, what, lambda n: f"{n:,.0f}")

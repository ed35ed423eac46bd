"""The gates of a run over purchases."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from topkin.config.publish.settings import PublishSettings
from topkin.gates import versions
from topkin.gates.gate import NOTHING_LIVE, REFUSED, Gate, as_many, asked, at_least, at_most, not_asked, percent, risen
from topkin.metrics.bootstrap import MIN_USERS
from topkin.recommend.bought import BOUGHT

Figures = Mapping[str, Any]
GROUP = 0.02
"""Share of the live version's purchases that makes a category be looked at."""


def gates(
    settings: PublishSettings,
    now: Figures,
    live: Figures,
    common: Figures,
    metrics: Figures | None,
    hindsight: Figures | None = None,
) -> Iterator[Gate]:
    """Every gate that is on.

    Args:
        settings: The limits.
        now: The figures of the version (:func:`topkin.gates.figures.of_purchases`).
        live: Those of the live version, empty where nothing is live.
        common: What both have in common (:func:`topkin.gates.compare.common_of`), empty likewise.
        metrics: The content of metrics.json; None where there is none.
        hindsight: The content of hindsight.json; likewise.
    """
    lists = now["lists"]
    yield from versions.least(
        "users with a list", "min_users", lists["users_with_list"], settings.min_users, "{} users have a list"
    )
    yield from versions.counts(settings, now, live)
    yield from _ranked(settings, now, live)
    yield from versions.rejects(settings, now, live)
    yield from _age(settings, now, bool(live))
    yield from _catalogue(settings, now, live)
    yield from _largest(settings, now, live)
    sides = {name: common.get(f"unknown {name}") for name in ("users", "items")}
    yield from versions.unknown(settings, sides, bool(live))
    yield from _lost(settings, common, bool(live))
    yield from _lists(settings, now, live, common)
    yield from versions.vectors(settings, now, live)
    yield from versions.index(settings, now)
    yield from baselines(settings, metrics, lists)
    yield from earlier_lists(settings, hindsight)


def _ranked(settings: PublishSettings, now: Figures, live: Figures) -> Iterator[Gate]:
    lists, before = now["lists"], live.get("lists", {})
    yield from as_many("users ranked by the model", lists["ranked"], before.get("ranked"), settings.max_drop, False)
    if settings.min_by_model is not False:
        name, key = "lists by the model", "min_by_model"
        if lists["by_model"] is None:
            yield not_asked(name, key, "no user has recommend.min_history purchases")
        else:
            what = "{} of the users with enough purchases are ranked by the model"
            yield at_least(name, key, lists["by_model"], settings.min_by_model, what, percent)


def _age(settings: PublishSettings, now: Figures, has_live: bool) -> Iterator[Gate]:
    """A first version may be of old purchases, as whoever tries a dump has them; that is told."""
    if settings.max_age is False:
        return
    name, key = "age of the last purchase", "max_age"
    if "age" not in now:
        bought = now.get("counts", {}).get("purchases", 1)
        yield not_asked(name, key, "the purchases have no times" if bought else "there are no purchases")
    else:
        what = "the last purchase is {} before the as-of date"
        gate = at_most(name, key, now["age"], settings.max_age, what, lambda days: f"{days:,.4g} days")
        if gate.verdict == REFUSED:
            why = f"{gate.sentence}; --as-of DATE makes the lists of an earlier day"
            first = not_asked(name, key, f"a first version may be of old purchases: {why}")
            gate = replace(gate, sentence=why) if has_live else first
        yield gate


def _catalogue(settings: PublishSettings, now: Figures, live: Figures) -> Iterator[Gate]:
    available = now["shares"]["available items"]
    if settings.min_available is not False:
        what = "{} of the catalogue is available"
        yield at_least("catalogue available", "min_available", available, settings.min_available, what, percent)
    for name, share in now["shares"].items():
        n, items = now["counts"]["items"], live.get("counts", {}).get("items", 0)
        before = live.get("shares", {}).get(name)
        if before == 0:  # it has never been filled
            continue
        was = None if before is None else before * items
        yield from as_many(name, share * n, was, settings.max_drop, False)
    yield from _categories(settings, now, live)
    if settings.max_price_change is not False:
        yield _price(settings.max_price_change, now["price"], live.get("price"), bool(live))


def _categories(settings: PublishSettings, now: Figures, live: Figures) -> Iterator[Gate]:
    if settings.max_group_drop is False:
        return
    name, key, before = "purchases by category", "max_group_drop", live.get("categories", {})
    total = live.get("counts", {}).get("purchases", 0)
    large = {c: n for c, n in before.items() if n >= max(GROUP * total, versions.FEW)}
    if not large:
        yield not_asked(name, key, "no category of the live version is large enough" if live else NOTHING_LIVE)
        return
    left = {c: now["categories"].get(c, 0) / n for c, n in large.items()}
    worst = min(left, key=lambda c: (left[c], c))
    drop = max(0.0, 1 - left[worst])
    sentence = (
        f"the category {worst!r} has {now['categories'].get(worst, 0):,} purchases, {large[worst]:,} in the live "
    )
    sentence += f"version; publish.{key} allows {percent(settings.max_group_drop)} fewer"
    yield asked(name, key, drop <= settings.max_group_drop, sentence, figure=drop, limit=settings.max_group_drop)


def _price(most: float, price: float | None, before: float | None, has_live: bool) -> Gate:
    name, key = "middle price", "max_price_change"
    if not price or not before:
        return not_asked(name, key, "the catalogue has no prices" if has_live else NOTHING_LIVE)
    factor = max(price / before, before / price)
    sentence = (
        f"the middle price of the catalogue is {price:.4g}, {before:.4g} in the live version; publish.{key} allows "
    )
    return asked(name, key, factor <= most, f"{sentence}a factor of {most:g}", figure=price, limit=most, live=before)


def _largest(settings: PublishSettings, now: Figures, live: Figures) -> Iterator[Gate]:
    if settings.max_concentration is False:
        return
    for name, share in now["largest"].items():
        before, gate = live.get("largest", {}).get(name), f"largest {name}"
        if live and live["counts"]["purchases"] < versions.FEW:
            yield not_asked(gate, "max_concentration", f"the live version has fewer than {versions.FEW} purchases")
        else:
            what = f"{{}} of the purchases are of one {name}"
            yield risen(gate, "max_concentration", share, before, settings.max_concentration, what)


def _lost(settings: PublishSettings, common: Figures, has_live: bool) -> Iterator[Gate]:
    if settings.max_lost is False:
        return
    name, key, lost = "known purchases", "max_lost", common.get("lost")
    if lost is None:
        yield not_asked(name, key, "the live version has none of this period" if has_live else NOTHING_LIVE)
    else:
        what = "{} of the purchases known to the live version are gone"
        yield at_most(name, key, lost, settings.max_lost, what, percent)


def _lists(settings: PublishSettings, now: Figures, live: Figures, common: Figures) -> Iterator[Gate]:
    lists, before = now["lists"], live.get("lists")
    if settings.max_short is not False:
        short = None if before is None else before["short"]
        yield risen("short lists", "max_short", lists["short"], short, settings.max_short, "{} of the lists are short")
        for name, other in now.get("other_lists", {}).items():
            was = live.get("other_lists", {}).get(name, {}).get("short")
            why = NOTHING_LIVE if before is None else "the live version has no such list"
            what = f"{{}} of the lists {name} are short"
            yield risen(f"short lists {name}", "max_short", other["short"], was, settings.max_short, what, why)
    why = NOTHING_LIVE
    if before is not None:
        changed = [key for key in ("model", "bought") if lists[key] != before[key]]
        why = f"recommend.{changed[0]} is another" if changed else "no user has a list in both versions"
        common = {} if changed else common
    if settings.min_overlap is not False:
        for name in ("overlap", "rank-biased overlap"):
            if (share := common.get(name)) is None:
                yield not_asked(name, "min_overlap", why)
            else:
                what = f"{name} with the live lists of the same users {{}}"
                yield at_least(name, "min_overlap", share, settings.min_overlap, what, lambda x: f"{x:.3f}")
    if settings.max_alike is not False:
        what = "the lists of two users overlap by {}"
        yield risen(
            "lists alike", "max_alike", common.get("alike"), common.get("alike before"), settings.max_alike, what, why
        )


def baselines(settings: PublishSettings, metrics: Figures | None, lists: Figures) -> Iterator[Gate]:
    """The model against baselines on held-out purchases, under the rule on bought items in force."""
    protocol = BOUGHT[lists["bought"]].protocol
    users = 0 if metrics is None else metrics["heldout"]["users" if protocol == "all" else "novel_users"]
    why = f"fewer than {MIN_USERS} users have held-out purchases"
    if metrics is None or users < MIN_USERS:
        yield from (not_asked(f"above {name}", "must_beat", why) for name in settings.must_beat)
        if settings.max_behind is not False:
            yield not_asked("best baseline", "max_behind", why)
        return
    scores, metric = metrics[protocol], settings.metric
    where = "all items" if protocol == "all" else "novel items"
    ours = scores["model"][metric]
    for name in settings.must_beat:
        if name == metrics.get("made_by"):  # nothing is above itself
            continue
        if name not in scores:
            reason = f"{name} was not measured: {metrics['left_out'][name]} (publish.must_beat)"
            yield asked(f"above {name}", "must_beat", False, reason)
            continue
        theirs = scores[name][metric]
        is_above = "is" if ours > theirs else "is not"
        sentence = (
            f"the model's {metric} on {where}, {ours:.4f}, {is_above} above {name}'s {theirs:.4f} (publish.must_beat)"
        )
        yield asked(f"above {name}", "must_beat", ours > theirs, sentence, figure=ours, limit=theirs)
    if settings.max_behind is not False:
        yield _best(settings.max_behind, metrics, protocol, metric, where)


def _best(most: float, metrics: Figures, protocol: str, metric: str, where: str) -> Gate:
    name, key, differences = "best baseline", "max_behind", metrics["differences"][protocol]
    if not differences:
        return not_asked(name, key, "no baseline was measured")
    scores = {model: values[metric] for model, values in metrics[protocol].items()}
    highs = {model: by_metric[metric][2] for model, by_metric in differences.items()}
    return _behind(name, most, scores, highs, f"the model's {metric} on {where}")


def earlier_lists(settings: PublishSettings, hindsight: Figures | None) -> Iterator[Gate]:
    """The lists of an earlier night against baselines, on what was bought since: the youngest that could be judged."""
    if settings.max_behind is False:
        return
    versions = [] if hindsight is None else hindsight["versions"]
    entry = next((one for one in versions if one["reason"] is None), None)
    if entry is None or not entry["differences"]:
        yield not_asked("hindsight", "max_behind", "no lists of an earlier night were judged")
        return
    scores = {model: value for model, (_, value, _) in entry["values"].items()}
    highs = {model: high for model, (_, _, high) in entry["differences"].items()}
    what = f"the {entry['metric']} of the lists of {entry['as_of'][:10]} on what was bought since"
    yield _behind("hindsight", settings.max_behind, scores, highs, what)


def _behind(name: str, most: float, scores: Mapping[str, float], highs: Mapping[str, float], what: str) -> Gate:
    """The model against the best baseline. scores: by model. highs: high ends of the differences, by baseline."""
    key, best = "max_behind", max(highs, key=lambda baseline: (scores[baseline], baseline))
    ours, theirs = scores["model"], scores[best]
    sentence = f"{what} is {ours:.4f}, that of the best baseline, {best}, {theirs:.4f}; "
    sentence += f"publish.{key} allows {percent(most)} below it"
    return asked(name, key, highs[best] >= -most * theirs, sentence, figure=ours, limit=theirs * (1 - most))

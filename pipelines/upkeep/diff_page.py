"""The page of ``topkin runs diff``: two runs side by side."""

from collections.abc import Iterator, Mapping
from typing import Any

from topkin.artifacts import lookup, runs, storage
from topkin.artifacts.lookup import Item
from topkin.report.browse.names import clean, show_id
from topkin.report.night.two_runs import Pair, Side, render_two
from topkin.telemetry.secrets import masked


def diff_page(content: Mapping[str, Any], before: runs.Run, after: runs.Run) -> str:
    """The page as HTML. told: what :func:`topkin.pipelines.upkeep.diff.diff` gives of the two."""
    return masked(render_two(content, (_side(before), _side(after)), list(_pairs(content, before, after))))


def _side(run: runs.Run) -> Side:
    def read(stage: str, name: str) -> Any:
        return storage.read_json(storage.join(run.folder(stage), name)) if stage in run.folders else None

    return Side(
        run_id=run.run_id,
        as_of=run.as_of,
        settings=storage.read_json(storage.join(run.path, "run.json"))["settings"],
        statistics=read("prepare", "statistics.json"),
        metrics=read("evaluate", "metrics.json"),
        gates=(read("report", "gates.json") or {}).get("gates"),
    )


def _pairs(content: Mapping[str, Any], before: runs.Run, after: runs.Run) -> Iterator[Pair]:
    """The lists of those that kept least, in both runs."""
    for who in content.get("affected", ()):
        kind, text = next(iter(who.items()))
        lists = [_listed(run, kind, str(text)) for run in (before, after)]
        yield Pair(name=f"{'Customer' if kind == 'user' else 'Item'} {text}", lists=(lists[0], lists[1]))


def _listed(run: runs.Run, kind: str, text: str) -> list[str]:
    user_type, item_type = lookup.id_types(run)
    for ident in lookup.possible_ids(text, item_type if kind == "item" or user_type is None else user_type):
        if kind == "user" and (user := lookup.user(run, ident)) is not None:
            return [_title(ranked.item) for ranked in user.recommendations]
        if kind == "item" and (item := lookup.item(run, ident)) is not None:
            return [_title(ranked.item) for ranked in item.neighbours]
    return []


def _title(item: Item) -> str:
    return clean(item.title or "") or clean(show_id(item.item_id))

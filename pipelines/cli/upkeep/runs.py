"""``topkin runs``: list the runs of an output folder, compare, verify, pin or delete them."""

import json
from collections.abc import Sequence
from typing import Any

from topkin.artifacts import manifest, runs
from topkin.errors import ArtifactError, ConfigError
from topkin.pipelines.cli import logs
from topkin.pipelines.cli.commands import CommandOptions
from topkin.pipelines.cli.upkeep import gc
from topkin.pipelines.engine.stages import alone
from topkin.pipelines.upkeep import versions
from topkin.pipelines.upkeep.collect import delete
from topkin.pipelines.upkeep.diff import diff
from topkin.planning.estimate import size

ACTIONS = ("list", "diff", "verify", "delete", "pin", "unpin")


def main(options: CommandOptions, words: Sequence[str]) -> None:
    """Do what the words ask for. Raises ConfigError where they ask for nothing known."""
    logs.silence()
    action, *names = words or ("list",)
    if action not in ACTIONS:
        raise ConfigError(f"topkin runs takes {', '.join(ACTIONS)}, got {action}")
    wanted = {"list": len(names) == 0, "diff": len(names) == 2, "verify": True}.get(action, len(names) > 0)
    if not wanted:
        raise ConfigError(f"topkin runs {action} {_TAKES[action]}, got {' '.join(names) or 'none'}")
    settings = options.run_settings()
    root, keep = settings.run.output, settings.run.keep
    if action == "list":
        _list(versions.entries(root, keep), as_json=options.json)
        return
    found = [versions.named(root, name) for name in (names or [versions.LIVE])]
    if action == "diff":
        told = diff(*(runs.read_run(root, name) for name in found))
        print(json.dumps(told)) if options.json else _show_diff(told)
    elif action == "verify":
        _verify([runs.read_run(root, name) for name in found], as_json=options.json)
    elif action == "delete":
        with alone(settings, f"topkin runs delete {' '.join(found)}"):
            gc.show(delete(root, found, keep), as_json=options.json)
    else:
        with alone(settings, f"topkin runs {action} {' '.join(found)}"):
            for name in found:
                versions.pin(root, name) if action == "pin" else versions.unpin(root, name)
        done = f"{action}ned"
        print(json.dumps({done: found}) if options.json else f"{done} {', '.join(found)}")


_TAKES = {
    "list": "takes no run",
    "diff": "takes two runs, the earlier one first",
    "delete": "takes one run or more",
    "pin": "takes one run or more",
    "unpin": "takes one run or more",
}


def _list(entries: Sequence[versions.Entry], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps([entry.to_json() for entry in entries]))
        return
    rows = [("run", "as of", "state", "made", "size", "users", "items", "lists", "figure"), *map(_row, entries)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [c.rjust(w) if 4 <= n < 8 else c.ljust(w) for n, (c, w) in enumerate(zip(row, widths, strict=True))]
        print("  ".join(cells).rstrip())
    for entry in entries:
        if entry.figures.anyway is not None:
            print(f"{entry.version.run_id} was published though gates refused it: {_safe(entry.figures.anyway)}")


def _row(entry: versions.Entry) -> tuple[str, ...]:
    run, made, told = entry.version.run, entry.version.made_at, entry.figures
    return (
        entry.version.run_id,
        "?" if run is None else run.as_of.isoformat(sep=" ").removesuffix(" 00:00:00"),
        entry.version.state,
        f"{made:%Y-%m-%d %H:%M}" if made else "?",
        size(told.bytes),
        *("" if n is None else f"{n:,}" for n in (told.users, told.items, told.lists)),
        "" if told.metric is None else f"{told.metric.replace('_', ' ')} {told.value:.4f}",
    )


def _verify(found: Sequence[runs.Run], *, as_json: bool) -> None:
    """Every file by its hash. Raises ArtifactError with all folders that are not as they were sealed."""
    damaged: list[str] = []
    told: list[dict[str, Any]] = []
    for run in found:
        files = bytes_ = 0
        for folder in run.folders.values():
            try:
                listed = manifest.verify(folder)["files"].values()
            except ArtifactError as e:
                damaged.append(str(e))
            else:
                files, bytes_ = files + len(listed), bytes_ + sum(file["bytes"] for file in listed)
        told.append({"run_id": run.run_id, "stages": len(run.folders), "files": files, "bytes": bytes_})
    if damaged:
        raise ArtifactError("\n".join(damaged))
    if as_json:
        print(json.dumps(told))
        return
    for one in told:
        print(f"{one['run_id']}: {one['files']:,} files of {one['stages']} stages, {size(one['bytes'])}, are as sealed")


def _safe(text: object) -> str:
    """A text of the data as a terminal may see it: nothing that moves the cursor."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(text))


def _show_diff(told: dict[str, Any]) -> None:
    print(f"from {told['before']} to {told['after']}")
    for name, (was, now) in told["counts"].items():
        if was is not None and now is not None:
            print(f"  {name:<10} {was:>12,} {now:>12,}   {now - was:+,}")
    if "lists" not in told:
        print("  no lists to compare")
        return
    lists = told["lists"]
    print(f"  {'lists':<10} {lists['both']:,} in both, {lists['before_only']:,} gone, {lists['after_only']:,} new")
    if lists["both"]:
        share = lists["changed"] / lists["both"]
        print(f"  {'changed':<10} {lists['changed']:,} lists ({share:.1%}); {lists['kept_share']:.1%} of a list stayed")
    for name in ("entering", "leaving", "gained", "lost"):
        side = told[name]
        print(f"  {name:<10} {side['items']:,} items{':' if side['most'] else ''}")
        for item in side["most"]:
            print(f"  {'':<10} {_safe(item['item'])}  {_safe(item['title'] or '')}", end="")
            print(f"  in {item['before']:,} lists, now in {item['after']:,}")
    if told["affected"]:
        print(f"  {'affected':<10} most:")
        for who in told["affected"]:
            kind, ident = next(iter(who.items()))
            print(f"  {'':<10} {kind} {_safe(ident)}  kept {who['kept']} of {who['before']}, has {who['after']}")

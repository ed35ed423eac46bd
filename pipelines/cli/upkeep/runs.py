"""``topkin runs``: list the runs of an output folder, compare, verify, pin or delete them."""

import json
from collections.abc import Sequence
from typing import Any

from topkin.artifacts import manifest, runs, storage
from topkin.errors import ArtifactError, ConfigError
from topkin.pipelines.cli import logs
from topkin.pipelines.cli.commands import CommandOptions
from topkin.pipelines.cli.terminal.completion import ACTIONS
from topkin.pipelines.cli.upkeep import gc
from topkin.pipelines.engine.stages import alone
from topkin.pipelines.upkeep import versions
from topkin.pipelines.upkeep.collect import delete
from topkin.pipelines.upkeep.diff import diff
from topkin.pipelines.upkeep.diff_page import diff_page
from topkin.planning.estimate import size
from topkin.telemetry.secrets import masked


def main(options: CommandOptions, words: Sequence[str], html: str | None = None) -> None:
    """Do what the words ask for. html: where the page of a diff goes. Raises ConfigError where it is nothing known."""
    logs.silence()
    action, *names = words or ("list",)
    if action not in ACTIONS:
        raise ConfigError(f"topkin runs takes {', '.join(ACTIONS)}, got {action}")
    wanted = {"list": len(names) == 0, "diff": len(names) == 2, "verify": True}.get(action, len(names) > 0)
    if not wanted:
        raise ConfigError(f"topkin runs {action} {_TAKES[action]}, got {' '.join(names) or 'none'}")
    if html is not None and action != "diff":
        raise ConfigError(f"--html is the page of topkin runs diff A B, got topkin runs {action}")
    settings = options.run_settings()
    root, keep = settings.run.output, settings.run.keep
    if action == "list":
        _list(versions.entries(root, keep), as_json=options.json)
        return
    pair_of = [versions.named(root, name) for name in (names or [versions.LIVE])]
    if action == "diff":
        pair = runs.read_run(root, pair_of[0]), runs.read_run(root, pair_of[1])
        content = diff(*pair)
        if html is not None:
            page = diff_page(content, *pair).encode()
            try:
                storage.write_bytes(page, html)
            except (OSError, ValueError) as e:  # Arrow says so of an unknown scheme
                raise ConfigError(f"--html must be a file that can be written, {masked(html)} cannot ({e})") from e
            content["html"] = html
        print(json.dumps(content)) if options.json else _show_diff(content)
    elif action == "verify":
        _verify([runs.read_run(root, name) for name in pair_of], as_json=options.json)
    elif action == "delete":
        with alone(settings, f"topkin runs delete {' '.join(pair_of)}"):
            gc.show(delete(root, pair_of, keep), as_json=options.json)
    else:
        with alone(settings, f"topkin runs {action} {' '.join(pair_of)}"):
            for name in pair_of:
                versions.pin(root, name) if action == "pin" else versions.unpin(root, name)
        done = f"{action}ned"
        print(json.dumps({done: pair_of}) if options.json else f"{done} {', '.join(pair_of)}")


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
    from topkin.pipelines.cli.terminal.tables import Sheet, screen

    table = Sheet("", "run", "state", "made", ">size", ">users", ">items", ">lists", "figure")
    for entry in entries:
        table.add(*_row(entry))
    screen().print(table)
    for entry in entries:
        if entry.figures.anyway is not None:
            print(f"{entry.version.run_id} was published though gates refused it: {_safe(entry.figures.anyway)}")


def _row(entry: versions.Entry) -> tuple[str, ...]:
    made_at, figures = entry.version.made_at, entry.figures
    return (
        entry.version.run_id,
        entry.version.state,
        f"{made_at:%Y-%m-%d %H:%M}" if made_at else "?",
        size(figures.bytes),
        *("" if n is None else f"{n:,}" for n in (figures.users, figures.items, figures.lists)),
        "" if figures.metric is None else f"{figures.metric.replace('_', ' ')} {figures.value:.4f}",
    )


def _verify(checked: Sequence[runs.Run], *, as_json: bool) -> None:
    """Every file by its hash. Raises ArtifactError with all folders that are not as they were sealed."""
    damaged: list[str] = []
    rows: list[dict[str, Any]] = []
    for run in checked:
        files = bytes_ = 0
        for folder in run.folders.values():
            try:
                listed = manifest.verify(folder)["files"].values()
            except ArtifactError as e:
                damaged.append(str(e))
            else:
                files, bytes_ = files + len(listed), bytes_ + sum(file["bytes"] for file in listed)
        rows.append({"run_id": run.run_id, "stages": len(run.folders), "files": files, "bytes": bytes_})
    if damaged:
        raise ArtifactError("\n".join(damaged))
    if as_json:
        print(json.dumps(rows))
        return
    for one in rows:
        print(f"{one['run_id']}: {one['files']:,} files of {one['stages']} stages, {size(one['bytes'])}, are as sealed")


def _safe(text: object) -> str:
    """A text of the data as a terminal may see it: nothing that moves the cursor."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(text))


def _show_diff(content: dict[str, Any]) -> None:
    page = f"; the page is {content['html']}" if "html" in content else ""
    print(f"from {content['before']} to {content['after']}{page}")
    for name, (was, now) in content["counts"].items():
        if was is not None and now is not None:
            print(f"  {name:<10} {was:>12,} {now:>12,}   {now - was:+,}")
    if "lists" not in content:
        print("  no lists to compare")
        return
    lists = content["lists"]
    print(f"  {'lists':<10} {lists['both']:,} in both, {lists['before_only']:,} gone, {lists['after_only']:,} new")
    if lists["both"]:
        share = lists["changed"] / lists["both"]
        print(f"  {'changed':<10} {lists['changed']:,} lists ({share:.1%}); {lists['kept_share']:.1%} of a list stayed")
    for name in ("entering", "leaving", "gained", "lost"):
        side = content[name]
        print(f"  {name:<10} {side['items']:,} items{':' if side['most'] else ''}")
        for item in side["most"]:
            print(f"  {'':<10} {_safe(item['item'])}  {_safe(item['title'] or '')}", end="")
            print(f"  in {item['before']:,} lists, now in {item['after']:,}")
    if content["affected"]:
        print(f"  {'affected':<10} most:")
        for who in content["affected"]:
            kind, ident = next(iter(who.items()))
            print(f"  {'':<10} {kind} {_safe(ident)}  kept {who['kept']} of {who['before']}, has {who['after']}")

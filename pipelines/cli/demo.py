"""``topkin demo``: a generated shop, every job on it, and what the first user should buy."""

import hashlib
import re
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from topkin.artifacts import lookup, storage
from topkin.artifacts.runs import Run, code_version
from topkin.errors import ConfigError
from topkin.pipelines.cli import commands, show
from topkin.pipelines.cli.commands import CONFIG, CommandOptions
from topkin.synthetic.shop import Shop

SHOP, RESULTS = "shop", "topkin-out"
"""The folders of the generated data and of the runs."""
MARKER = ".topkin-demo.json"
"""Written before all else: a folder without it is somebody's. It knows the configurations that were written there."""
_TABLE = (
    r"purchases/part-\d{5}-of-\d{5}\.parquet|(?:truth/)?(?:items|users|best)\.parquet|truth/counts\.json|shop\.json"
)
_OURS = re.compile(rf"(?:{_TABLE})|(?:[a-z]+/)?\.[^/]+\.[0-9a-f]{{32}}")  # the second is left where a job was killed


def demo(output: Path, *, users: int, items: int, purchases: int, seed: int, options: CommandOptions) -> None:
    """Write the shop and its configuration to ``output``, unless it is there already, and run all jobs.

    Raises ConfigError where the settings are wrong, or files of somebody else are in the way; nothing is written then.
    """
    from topkin.pipelines.engine.job import beam_options
    from topkin.pipelines.run import run_all

    options, flags = replace(options, config=str(output / CONFIG)), options.beam_flags()
    shop = Shop(users=users, items=items, purchases=purchases, seed=seed)
    if flags:
        beam_options(flags)
    _write(shop, output, options)
    settings = options.settings()
    with options.progress() as tell:
        run = run_all(settings, as_of=shop.as_of, force=options.force, beam=flags, tell=tell)
    commands.print_run(run, as_json=options.json, reports=tell)
    if not options.json:
        from rich.console import Console

        console = Console()
        console.print(show.show_user(run, first_user(run)))
        console.print(
            f"another user or item: topkin show --config {options.config} WORDS OF A TITLE",
            markup=False,
            highlight=False,
            soft_wrap=True,  # a command is one line
        )


def _write(shop: Shop, output: Path, options: CommandOptions) -> None:
    """The same files keep their times, so that finished stages are taken as they are."""
    names = ("users", "items", "purchases", "seed")
    what = {**{name: getattr(shop, name) for name in names}, "code": code_version()}
    folder, config, text = output / SHOP, output / CONFIG, shop.config_toml(SHOP, output=RESULTS)
    written = _ours(output)
    whole = folder / "shop.json"
    there = written is not None and whole.exists() and storage.read_json(str(whole)) == what
    own = config if there and config.exists() else None
    _check(text if own is None else own.read_text(encoding="utf-8"), config, options)
    if own is not None:
        return
    known = written or []
    if config.exists() and _digest(config.read_bytes()) not in known:
        raise ConfigError(
            f"{config} was changed since topkin demo wrote it, for another shop: move it away, give the sizes and the "
            "seed of before, or name another folder by --output"
        )
    try:
        marker = {"configs": sorted({*known, _digest(text.encode())})}
        storage.write_json(marker, str(output / MARKER))
        if not there:
            gone = storage.files(str(folder), hidden=True)
            storage.remove_files(str(folder), sorted(gone, key=lambda name: (name != whole.name, name)))
            shop.write(str(folder))
        storage.write_bytes(text.encode(), str(config))
        storage.write_json(what, str(whole))
    except (NotADirectoryError, FileExistsError, PermissionError) as e:
        raise ConfigError(f"--output must be a folder that can be written, got {output}: {e}") from e


def _ours(output: Path) -> list[str] | None:
    """The hashes of the configurations that an earlier demo wrote to a folder; None where none ran there.

    Raises ConfigError where files of somebody else are in the way.
    """
    if output.exists() and not output.is_dir():
        raise ConfigError(f"--output must be a folder, {output} is a file: name another")
    marked = (output / MARKER).is_file()
    others: list[Path] = []
    if marked:
        held = storage.files(str(output / SHOP), hidden=True) if (output / SHOP).is_dir() else []
        others = [output / SHOP / name for name in held if not _OURS.fullmatch(name)]
        others += [path for path in (output / SHOP,) if path.is_symlink() or path.is_file()]
    else:
        others = [path for name in (SHOP, CONFIG, RESULTS) if (path := output / name).exists() or path.is_symlink()]
    if others:
        raise ConfigError(
            f"topkin demo writes {SHOP}, {CONFIG} and {RESULTS}, and touches nothing that it did not make; in its way "
            f"{'is' if len(others) == 1 else 'are'} {', '.join(map(str, others[:3]))}: name another folder by --output"
        )
    if not marked:
        return None
    marker: Any = storage.read_json(str(output / MARKER))
    configs = marker.get("configs") if isinstance(marker, dict) else None
    return [str(c) for c in configs] if isinstance(configs, list) else []


def _check(text: str, config: Path, options: CommandOptions) -> None:
    """Raise ConfigError where a configuration and the command line together are wrong, before anything is written."""
    with tempfile.TemporaryDirectory(prefix="topkin-demo-") as folder:
        beside = Path(folder, CONFIG)
        beside.write_text(text, encoding="utf-8")
        try:
            replace(options, config=str(beside)).settings()
        except ConfigError as e:
            raise ConfigError(str(e).replace(str(beside), str(config))) from e


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def first_user(run: Run) -> lookup.Id:
    """The smallest id among the users with a history."""
    table = storage.read_parts(storage.join(run.folder("prepare"), "histories"), ["user_id", "items"])
    bought = table.filter(pc.greater(pc.list_value_length(table["items"]), pa.scalar(0)))
    users: lookup.Id = pc.min(bought["user_id"]).as_py()
    return users

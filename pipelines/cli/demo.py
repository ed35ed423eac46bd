"""``topkin demo``: a generated shop, every job on it, and what the first user should buy."""

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from topkin.artifacts import lookup, storage
from topkin.artifacts.runs import Run, code_version
from topkin.pipelines.cli import commands, show
from topkin.pipelines.cli.commands import CommandOptions
from topkin.synthetic.shop import Shop

SHOP = "shop"  # the folder of the generated data


def demo(output: Path, *, users: int, items: int, purchases: int, seed: int, options: CommandOptions) -> None:
    """Write the shop and its configuration to ``output``, unless it is there already, and run all jobs."""
    from topkin.pipelines.run import run_all

    options, flags = replace(options, config=str(output / "topkin.toml")), options.beam_flags()
    shop = Shop(users=users, items=items, purchases=purchases, seed=seed)
    _write(shop, output)
    settings = options.settings()
    with options.progress() as tell:
        run = run_all(settings, as_of=shop.as_of, force=options.force, beam=flags, tell=tell)
    commands.print_run(run, as_json=options.json)
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


def _write(shop: Shop, output: Path) -> None:
    """The same files keep their times, so that finished stages are taken as they are."""
    marker, config = str(output / SHOP / "shop.json"), str(output / "topkin.toml")
    what = {
        "users": shop.users,
        "items": shop.items,
        "purchases": shop.purchases,
        "seed": shop.seed,
        "code": code_version(),
    }
    there = storage.exists(marker) and storage.read_json(marker) == what
    if not there:
        storage.remove_folder(str(output / SHOP))
        shop.write(str(output / SHOP))
        storage.write_json(what, marker)
    if not there or not storage.exists(config):
        storage.write_bytes(shop.config_toml(SHOP).encode(), config)


def first_user(run: Run) -> lookup.Id:
    """The smallest id among the users with a history."""
    table = storage.read_parts(storage.join(run.folder("prepare"), "histories"), ["user_id", "items"])
    bought = table.filter(pc.greater(pc.list_value_length(table["items"]), pa.scalar(0)))
    users: lookup.Id = pc.min(bought["user_id"]).as_py()
    return users

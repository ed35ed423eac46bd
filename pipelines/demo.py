"""``topkin demo``: a generated shop, every job on it, and what the first user should buy."""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from topkin import lookup, storage
from topkin.pipelines import commands, show
from topkin.pipelines.asked import Asked
from topkin.runs import Run
from topkin.synthetic import Shop

SHOP = "shop"  # the folder of the generated data


def demo(output: Path, *, users: int, items: int, purchases: int, seed: int, asked: Asked) -> None:
    """Write the shop and its configuration to ``output``, unless it is there already, and run all jobs."""
    from topkin.pipelines.nightly import run_all

    flags = commands.beam_flags(asked)
    shop = Shop(users=users, items=items, purchases=purchases, seed=seed)
    _write(shop, output)
    settings = commands.settings_of(asked)
    run = commands.start(asked, settings, shop.as_of, flags, lambda s, options: run_all(s, **options))
    commands.tell_run(run, None, as_json=asked.json)
    if not asked.json:
        from rich.console import Console

        console = Console()
        console.print(show.show_user(run, first_user(run)))
        console.print(
            f"another user or item: topkin show --config {asked.config} WORDS OF A TITLE", markup=False, highlight=False
        )


def _write(shop: Shop, output: Path) -> None:
    marker = str(output / SHOP / "shop.json")
    what = {"users": shop.users, "items": shop.items, "purchases": shop.purchases, "seed": shop.seed}
    if storage.exists(marker) and storage.read_json(marker) == what:
        return  # the same files keep their times, so that finished stages are taken as they are
    storage.remove_folder(str(output / SHOP))
    shop.write(str(output / SHOP))
    storage.write_bytes(shop.config_toml(SHOP).encode(), str(output / "topkin.toml"))
    storage.write_json(what, marker)


def first_user(run: Run) -> lookup.Id:
    """The smallest id among the users with a history."""
    table = storage.read_parts(storage.join(run.folder("prepare"), "histories"), ["user_id", "items"])
    bought = table.filter(pc.greater(pc.list_value_length(table["items"]), pa.scalar(0)))
    users: lookup.Id = pc.min(bought["user_id"]).as_py()
    return users

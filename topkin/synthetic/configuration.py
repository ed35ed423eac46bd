"""The topkin configuration of the generated shop: its columns, and the rules that undo its dirt."""

from topkin.synthetic.noise import NOTES


def config_toml(folder: str, output: str, seed: int) -> str:
    """TOML text; ``folder`` (of the shop) and ``output`` are relative to the file that will hold it."""
    notes = ", ".join(f"'{n}'" for n in NOTES)
    return _CONFIG.format(folder=folder, output=output, seed=seed, notes=notes)


_CONFIG = """\
# A generated shop: topkin demo writes this file and the data beside it.

[run]
output = "{output}"
seed = {seed}
parts = 4

[purchases]
path = "{folder}/purchases"
user_id = "user_id"
item_id = "item_id"
timestamp = "timestamp"
quantity = "quantity"
price = "price"
segment = "country"

[purchases.normalise]
item_id = "upper(trim(item_id))"

[purchases.rules]
cancelled = "not starts_with(invoice_id, 'C')"
returned = "quantity > 0"
"no price" = "price > 0"
"not a product" = "regexp_full_match(upper(trim(item_id)), '[0-9]{{5,}}[A-Z]')"

[items]
path = "{folder}/items.parquet"
item_id = "item_id"
title = "title"
category = "category"
price = "price"
available = "available"

[items.normalise]
item_id = "upper(trim(item_id))"
title = "case when trim(title) in ({notes}) then null else trim(title) end"

[items.rules]
"not a product" = "regexp_full_match(upper(trim(item_id)), '[0-9]{{5,}}[A-Z]')"

[users]
path = "{folder}/users.parquet"
user_id = "user_id"
segment = "country"
"""

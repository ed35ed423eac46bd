"""What earlier nights showed: topkin's own published lists are the impressions."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from topkin.artifacts import storage
from topkin.interactions import encode_ids
from topkin.linalg.csr import Csr


def shown_items(
    folders: Sequence[str], part: int, parts: int, user_ids: pa.Array | pa.ChunkedArray, item_ids: pa.Array
) -> Csr:
    """The items that published lists had for each of a part's users, distinct and ascending.

    Args:
        folders: Of tables ``recommendations``, of any number of parts.
        part: Whose users are asked for.
        parts: How many there are tonight: a table of as many has the part's users in the part of the same number.
        user_ids: Of the users; those who had no list have no items.
        item_ids: Of all items tonight; others are left out.
    """
    users, items = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for folder in folders:
        paths = storage.parquet_files(folder)
        if len(paths) == parts:
            paths = [path for path in paths if path.endswith(storage.part_name(part, parts))]
        for path in paths:
            table = storage.read_parquet(path, ["user_id", "item_id"])
            if table["user_id"].type != user_ids.type or table["item_id"].type != item_ids.type:
                continue  # ids of another type are other users and items
            rows, numbers = encode_ids(table["user_id"], user_ids), encode_ids(table["item_id"], item_ids)
            known = (rows >= 0) & (numbers >= 0)
            users.append(rows[known])
            items.append(numbers[known])
    return Csr.of_pairs(np.concatenate(users), np.concatenate(items), len(user_ids), len(item_ids))

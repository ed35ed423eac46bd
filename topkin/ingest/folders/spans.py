"""When the purchases of each file were, as its statistics or its folder's name say."""

from collections.abc import Sequence
from datetime import datetime

import numpy as np
import pyarrow as pa

from topkin.ingest import timestamps

Span = tuple[datetime, datetime]
"""The first and the last time of a file, naive UTC."""


def ends_of(times: pa.ChunkedArray) -> Span:
    """The first and the last of times."""
    micros, _ = timestamps.to_micros(times)
    first, last = (np.datetime64(int(m), "us").item() for m in (micros.min(), micros.max()))
    return first, last


def spans_of(looks: Sequence[Span | pa.Scalar | None], unit: str) -> list[Span | None]:
    """The span of each file, the values of folders read as times, all at once."""
    values = [value for value in looks if isinstance(value, pa.Scalar)]
    if not values:
        return list(looks)
    times = pa.chunked_array([pa.array([value.as_py() for value in values], values[0].type)])
    micros, state = timestamps.to_micros(times, unit)
    read = iter(np.where(state == timestamps.READ, micros.astype("datetime64[us]"), np.datetime64("NaT")).tolist())

    def span(look: Span | pa.Scalar | None) -> Span | None:
        if not isinstance(look, pa.Scalar):
            return look
        time = next(read)
        return None if time is None else (time, time)

    return [span(look) for look in looks]

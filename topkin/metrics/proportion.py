"""The interval of a share."""

import math

Z95 = 1.959963984540054
"""The 97.5 % quantile of the normal distribution."""


def wilson(share: float, n: int, z: float = Z95) -> tuple[float, float]:
    """The score interval of a share of ``n`` trials (Wilson 1927): its low and high end, within 0 and 1.

    z: the normal quantile, of 95 % by default. Raises ValueError for no trial, or a share outside of 0 and 1.
    """
    if n < 1 or not 0 <= share <= 1:
        raise ValueError(f"an interval needs a share from 0 to 1 of at least one trial, got {share} of {n}")
    centre = share + z * z / (2 * n)
    reach = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    whole = 1 + z * z / n
    return max(0.0, (centre - reach) / whole), min(1.0, (centre + reach) / whole)

"""PURE. From buckets to figures.

A histogram has a bucket per power of two of nanoseconds: bucket n counts durations d with
2^(n-1) <= d < 2^n. A quantile is therefore exact to a factor of two at worst; it is interpolated
within its bucket.
"""

from collections.abc import Sequence


def quantile_ns(buckets: Sequence[int], q: float) -> float:
    """The q-quantile (0..1) in nanoseconds, 0.0 where nothing was counted."""
    total = sum(buckets)
    if total == 0:
        return 0.0
    rank = q * total
    below = 0
    for index, count in enumerate(buckets):
        if count and below + count >= rank:
            low = 0.0 if index == 0 else 2.0 ** (index - 1)
            return low + (2.0**index - low) * max(0.0, rank - below) / count
        below += count
    return 2.0 ** (len(buckets) - 1)

"""PURE. From buckets to figures.

A histogram has a bucket per power of two of nanoseconds: bucket n counts durations d with
2^(n-1) <= d < 2^n. A quantile is therefore exact to a factor of two at worst; it is interpolated
within its bucket.
"""

from collections.abc import Mapping, Sequence
from math import ceil, log2
from typing import TypeVar

import msgspec

K = TypeVar("K", int, str)


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


# Buckets of an answer's time: eight for each doubling, from 0.1 ms on; about 9 % wide.
BUCKETS_PER_OCTAVE = 8
BUCKET_SECONDS = 0.0001
BUCKETS = 8 * 24


class Answers(msgspec.Struct):
    """What one release answered. latencies: counts by `bucket`. kinds: exceptions by "where: type"."""

    count: int = 0
    errors: int = 0
    latencies: dict[int, int] = {}
    kinds: dict[str, int] = {}

    def add(self, other: "Answers") -> None:
        """Count another's in."""
        self.count += other.count
        self.errors += other.errors
        self.latencies = _sum(self.latencies, other.latencies, 1)
        self.kinds = _sum(self.kinds, other.kinds, 1)

    def since(self, earlier: "Answers") -> "Answers":
        """What came after an earlier state of the same counters."""
        return Answers(
            self.count - earlier.count,
            self.errors - earlier.errors,
            _sum(self.latencies, earlier.latencies, -1),
            _sum(self.kinds, earlier.kinds, -1),
        )


def _sum(counts: Mapping[K, int], others: Mapping[K, int], sign: int) -> dict[K, int]:
    found = dict(counts)
    for key, count in others.items():
        found[key] = found.get(key, 0) + sign * count
    return {key: count for key, count in found.items() if count}


def bucket(seconds: float) -> int:
    """The bucket that an answer's time is counted in."""
    if seconds <= BUCKET_SECONDS:
        return 0
    return min(BUCKETS, ceil(log2(seconds / BUCKET_SECONDS) * BUCKETS_PER_OCTAVE))


def seconds_of(number: int) -> float:
    """The upper end of a bucket."""
    return BUCKET_SECONDS * 2.0 ** (number / BUCKETS_PER_OCTAVE)

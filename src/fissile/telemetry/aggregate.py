"""PURE. What a release has answered: counts, errors, and how long answers took, in buckets that add up."""

from collections.abc import Mapping
from math import ceil, log2
from typing import TypeVar

import msgspec

K = TypeVar("K", int, str)


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

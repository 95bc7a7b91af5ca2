"""PURE. Medians and ratios of rounds that were measured side by side.

Peers are measured in turns, round by round, so that whatever else the machine does falls on all of
them. A ratio is therefore taken within each round, and the median of the ratios is what is reported:
a disturbed round moves one ratio and not the result.
"""

from collections.abc import Sequence


def median(values: Sequence[float]) -> float:
    """The middle value, or the mean of both middle ones. Raises ValueError for none."""
    if not values:
        raise ValueError("there is no median of nothing")
    ordered = sorted(values)
    middle = len(ordered) // 2
    if len(ordered) % 2:
        return ordered[middle]
    return (ordered[middle - 1] + ordered[middle]) / 2


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which `share` (0 to 1) of the values lie, interpolated linearly.

    Raises ValueError for no values or a share outside 0..1.
    """
    if not values:
        raise ValueError("there is no quantile of nothing")
    if not 0.0 <= share <= 1.0:
        raise ValueError(f"a share of {share} is outside 0..1")
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def ratio(numerators: Sequence[float], denominators: Sequence[float]) -> float:
    """The median of the ratios round by round. Raises ValueError where the rounds do not pair up."""
    if len(numerators) != len(denominators):
        raise ValueError(f"{len(numerators)} rounds cannot be compared with {len(denominators)}")
    return median([above / below for above, below in zip(numerators, denominators, strict=True)])

"""Which replica of a door has too many of the kept connections, and to whom they go.

A client that keeps its connection stays with the process that accepted it, so that replicas which come later would get
nothing of its requests, and those that accept first would get all. Looked at are the counts alone, as each replica
reported them; what is decided is exact, and is decided only where the difference is worth it.
"""

from collections.abc import Callable, Mapping, Sequence
from math import floor

import msgspec

from fissile.orchestrator.replica import Replica
from fissile.orchestrator.routing import Door

# So far from its part a replica may be, of what its part is and in connections, before any are moved.
SLACK_SHARE = 0.2
SLACK_CONNECTIONS = 1
# Counts that are older than this are no reason to move anything.
COUNTED_SECONDS_MAX = 1.5


class Holder(msgspec.Struct, frozen=True):
    """A replica that serves a door. kept: its kept connections. weight: its part of them, relative to the others'."""

    serial: int
    kept: int
    weight: float


class Shift(msgspec.Struct, frozen=True):
    """So many kept connections are to go from one replica to another."""

    giver: int
    taker: int
    count: int


def handovers(
    doors: Mapping[Door, Sequence[tuple[Replica, float]]], draw: Callable[[], float], now: float
) -> dict[int, dict[str, dict[int, int]]]:
    """How many kept connections go from whom to whom: by the serial of the giver, by door, by that of the taker.

    doors: who serves each, with its part. draw: a chance in [0, 1), for each door one. now: monotonic seconds.
    """
    found: dict[int, dict[str, dict[int, int]]] = {}
    for door, replicas in doors.items():
        for one in shifts(counted(door.name, replicas, now), draw()):
            found.setdefault(one.giver, {}).setdefault(door.name, {})[one.taker] = one.count
    return found


def counted(door: str, replicas: Sequence[tuple[Replica, float]], now: float) -> list[Holder]:
    """What each of them holds, as far as it has said; nobody, unless all have been heard of lately."""
    if any(now - replica.heard_at >= COUNTED_SECONDS_MAX for replica, _ in replicas):
        return []
    told = ((one, one.report, part) for one, part in replicas)
    return [Holder(one.serial, report.kept.get(door, 0), part) for one, report, part in told if report is not None]


def shifts(holders: Sequence[Holder], chance: float) -> tuple[Shift, ...]:
    """What makes the counts right; nothing where they nearly are.

    chance: in [0, 1): from which replica on odd connections are dealt out, where nobody has one more already.
    """
    parts = _parts(holders, chance)
    if not any(_far(holder.kept, part) for holder, part in zip(holders, parts, strict=True)):
        return ()
    missing = [[holder.serial, part - holder.kept] for holder, part in zip(holders, parts, strict=True)]
    takers = [one for one in missing if one[1] > 0]
    found: list[Shift] = []
    for giver, lacks in missing:
        while lacks < 0:
            taker = takers[-1]
            count = min(-lacks, taker[1])
            found.append(Shift(giver, taker[0], count))
            lacks += count
            taker[1] -= count
            if not taker[1]:
                takers.pop()
    return tuple(found)


def _parts(holders: Sequence[Holder], chance: float) -> list[int]:
    """How many connections each is to have: by its weight, and what is left over to the largest remainders."""
    total, weights = sum(holder.kept for holder in holders), sum(holder.weight for holder in holders)
    if weights <= 0.0:
        return [holder.kept for holder in holders]
    exact = [total * holder.weight / weights for holder in holders]
    parts = [floor(part) for part in exact]
    first = floor(chance * len(holders))

    def worth(number: int) -> tuple[float, int, int]:
        # Rounded: equal weights have equal remainders, whatever the arithmetic makes of them.
        rest = round(exact[number] - parts[number], 6)
        return -rest, -holders[number].kept, (number - first) % len(holders)

    for number in sorted(range(len(holders)), key=worth)[: total - sum(parts)]:
        parts[number] += 1
    return parts


def _far(kept: int, part: int) -> bool:
    return (kept == 0 and part > 0) or abs(kept - part) > max(SLACK_CONNECTIONS, SLACK_SHARE * part)

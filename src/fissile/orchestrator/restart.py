"""When a replica that ended comes back: at once the first time, later and later if it keeps ending.

Exponential back-off with jitter, so that a broken service never starves the machine and many broken
ones never start in step; a replica that lived long enough has earned a clean record.
"""

import msgspec

FIRST_PAUSE_SECONDS = 0.1
PAUSE_SECONDS_MAX = 30.0
HEALTHY_SECONDS = 10.0
JITTER_SHARE = 0.2


class Restarts(msgspec.Struct, frozen=True):
    """How often in a row a slot's replicas ended young."""

    failures: int = 0


class Decision(msgspec.Struct, frozen=True):
    """Start again after a pause, and why then."""

    pause_seconds: float
    reason: str


def after_exit(record: Restarts, *, lived_seconds: float, chance: float) -> tuple[Restarts, Decision]:
    """What follows from the end of a replica.

    lived_seconds: from its readiness to its end, 0 if it was never ready. chance: random, 0 to 1.
    """
    if lived_seconds >= HEALTHY_SECONDS:
        record = Restarts()
    if record.failures == 0:
        return Restarts(1), Decision(0.0, "it ended: start it again at once")
    pause = min(PAUSE_SECONDS_MAX, FIRST_PAUSE_SECONDS * 2.0 ** min(record.failures - 1, 20))
    pause *= 1.0 - JITTER_SHARE * chance
    failures = record.failures + 1
    return Restarts(failures), Decision(pause, f"it ended {failures} times in a row: wait {pause:.1f} s")

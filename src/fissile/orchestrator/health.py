"""Whether a replica is at fault though its process is there: stuck, or beyond its memory."""

from enum import StrEnum
from math import inf

from fissile.orchestrator.desired import DesiredSet
from fissile.orchestrator.reasons import LoopStuck, OverMemory
from fissile.orchestrator.replica import READY, STARTING, Replica

# After so long a silence, a replica is asked where it stands; one that is stuck has written it by the next look.
ASK_SECONDS = 2.5
STUCK_SECONDS = 3.0


def hears_no_signal(replica: Replica, *, program: bool) -> bool:
    """Whether one that is to end may not hear of it: it hangs in an import, or in a `start` that never waits.

    A program that starts may be a database that recovers; and of one that has not reported, nobody knows.
    """
    return replica.state is STARTING and not replica.unheard and not program


class Silence(StrEnum):
    """What is to be done about a replica that says nothing."""

    NOTHING = "nothing"
    ASK = "ask"
    LOOK = "look"


def silence(replica: Replica, want: DesiredSet | None, now: float) -> Silence:
    """ASK it where it stands, or LOOK whether it has answered: one that was asked, and is stuck, has."""
    silent = now - replica.heard_at
    if silent <= ASK_SECONDS or replica.state is not READY or replica.stuck:
        return Silence.NOTHING
    if want is None or want.silent_seconds_max == inf:
        return Silence.NOTHING  # of a program that knows nothing of us, silence says nothing
    if replica.asked_at < replica.heard_at:
        return Silence.ASK
    return Silence.LOOK if silent > STUCK_SECONDS else Silence.NOTHING


def stuck_loop(replica: Replica, now: float) -> LoopStuck:
    """Of a replica that has written where it stands."""
    return LoopStuck(now - replica.heard_at)


def over_memory(used_bytes: int | None, limit_bytes: int | None) -> OverMemory | None:
    """Why a replica has to be killed that is watched and not held; None if it has not."""
    if limit_bytes is None or used_bytes is None or used_bytes <= limit_bytes:
        return None
    return OverMemory(used_bytes, limit_bytes)

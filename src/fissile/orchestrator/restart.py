"""When a replica that died is started again.

The first death is answered at once, because most are accidents and callers wait. Deaths that follow
each other are answered with growing pauses, so that a broken service cannot starve the machine, and
with jitter, so that services that died together do not come back in step. A replica that served for
a while starts with a clean slate. What cannot start because of somebody's mistake, as a program that is not
there, is tried seldom from the first time on: only people can mend that.
"""

import msgspec

from fissile.orchestrator.reasons import Exited, InPlace, Reason, StartsAgain


class RestartPolicy(msgspec.Struct, frozen=True):
    """How patient: pauses from `pause_seconds`, doubled up to `pause_seconds_max`, less the jitter.

    stable_seconds: a replica that served so long has shown that it works. jitter: the greatest part
    of a pause that chance may take off it. crash_loop_deaths: deaths in a row that are called a loop.
    mistake_seconds: the least pause where a mistake has to be mended.
    """

    pause_seconds: float = 0.1
    pause_seconds_max: float = 30.0
    stable_seconds: float = 10.0
    jitter: float = 0.3
    crash_loop_deaths: int = 5
    mistake_seconds: float = 5.0


DEFAULT_POLICY = RestartPolicy()


class Deaths(msgspec.Struct, frozen=True):
    """What one slot remembers: how many replicas in a row died young."""

    in_a_row: int = 0


class ReplicaExited(msgspec.Struct, frozen=True):
    """served_seconds: from ready until the end; 0 if it never was.

    mistake: whether it cannot start before somebody has mended something. instead: who is there in its place, so that
    nothing is started.
    """

    how: Reason
    served_seconds: float
    mistake: bool = False
    instead: InPlace = InPlace.NOBODY


class StartReplica(msgspec.Struct, frozen=True):
    """Start a replica in the slot after a pause, and the reason for both."""

    after_seconds: float
    crash_loop: bool
    reason: StartsAgain


def decide(
    deaths: Deaths, exited: ReplicaExited, chance: float, policy: RestartPolicy = DEFAULT_POLICY
) -> tuple[Deaths, StartReplica]:
    """What follows from a replica's end. chance: in [0, 1)."""
    in_a_row = 1 if exited.served_seconds >= policy.stable_seconds else deaths.in_a_row + 1
    doublings = min(in_a_row - 2, 64)
    pause = 0.0 if doublings < 0 else min(policy.pause_seconds * 2.0**doublings, policy.pause_seconds_max)
    if exited.mistake:
        pause = max(pause, policy.mistake_seconds)
    pause *= 1.0 - policy.jitter * chance
    looping = in_a_row >= policy.crash_loop_deaths
    reason = StartsAgain(exited.how, in_a_row, looping, pause, exited.instead)
    return Deaths(in_a_row), StartReplica(pause, looping, reason)


class Exit(msgspec.Struct, frozen=True):
    """What is known of the end of a replica's process.

    status: as of waitpid(2), -9 for SIGKILL; None: nobody saw it. trouble: why it cannot start, by its own word;
    mistake: whether that is for people to mend. nothing_to_run: the program, or what it was to run, is not there.
    memory: that it had none left.
    """

    status: int | None
    trouble: Reason | None = None
    mistake: bool = False
    nothing_to_run: bool = False
    memory: Reason | None = None


def how_it_ended(found: Exit, pid: int, *, was_ready: bool, program: bool) -> tuple[Reason, bool]:
    """How a replica ended, and whether people have to mend something before another can start.

    Of a replica of components its own word counts; a program has none, and what it could not run says as much.
    """
    mistake = found.mistake or (program and found.nothing_to_run and not was_ready)
    return found.memory or found.trouble or Exited(found.status, pid, early=not was_ready), mistake

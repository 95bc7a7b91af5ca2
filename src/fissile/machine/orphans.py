"""Replicas of which a supervisor and its zygote died both: they serve on, and nobody can adopt them.

Whoever starts the application next ends them first, in order, so that none is left behind, and none holds
a port. They are known by process number and time of birth together: a number alone may be another's by then. Their
marks tell of those as well that a full disk kept from the list.
"""

from collections.abc import Container, Mapping

from fissile.machine.leftover_processes import Ending, left_anywhere
from fissile.machine.procfs import look, mark_of, still_there


def marked(application: str, adopted: Container[int]) -> dict[int, int]:
    """The births of replicas that carry an application's mark, by process number. adopted: serials that are known."""
    found: dict[int, int] = {}
    for pid in left_anywhere(application, lambda serial: serial > 0 and serial not in adopted):
        here, mark = look(pid), mark_of(pid)
        # A replica leads its session. So does a daemon that it left, which ends by the same signals.
        if here is not None and mark is not None and here.session == pid and not here.ended:
            found[pid] = here.born
    return found


async def end(births: Mapping[int, int], seconds_max: float) -> int:
    """Ask them to end, and kill those that have not within the limit (seconds). How many there were."""
    ending = Ending(lambda: still_there(births), asked=seconds_max)
    await ending.run_beside()
    return ending.found

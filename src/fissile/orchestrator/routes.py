"""Which slots of a service its callers are told of.

Those with a ready replica. Where there is none, those that will have one: calls wait in the queue of
the slot's socket, for as long as their deadline allows, instead of failing.
"""

from fissile.orchestrator.change import DesiredService
from fissile.orchestrator.replica import DRAINING, READY, ObservedService


def routes(want: DesiredService, service: ObservedService) -> tuple[int, ...]:
    """The slots, in order; never none: slot 0 is where a call wakes a service that sleeps."""
    ready = {r.slot for r in service.replicas.values() if r.state is READY and not r.ending}
    if ready:
        return tuple(sorted(ready))
    coming = {r.slot for r in service.replicas.values() if r.state is not DRAINING and not r.ending}
    coming |= {slot for slot, memory in service.slots.items() if memory.reason}
    return tuple(sorted(coming or range(want.replicas) or {0}))

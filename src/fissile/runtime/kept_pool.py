"""The kept connections of one door: how many there are, and how they move to other replicas.

A connection moves between two requests, once it rests (see kept). The supervisor evens out the counts of
replicas by that, and a replica that drains gives its clients to its heirs.
"""

import asyncio
import random
from collections.abc import Collection, Mapping
from typing import Any

from fissile.runtime.connection_handoff import HandoffSender
from fissile.runtime.kept import Kept

# A connection that has not rested for so long stays, whatever was ordered.
MOVE_SECONDS_MAX = 5.0
RETRY_SECONDS = 0.02


class KeptPool:
    """Counts and moves the kept connections among `connections`.

    door: the name by which other processes know the door. sender: passes connections to other replicas.
    """

    def __init__(self, door: str, connections: Collection[Any], sender: HandoffSender) -> None:
        self._door = door
        self._connections = connections
        self._sender = sender
        self._move_until = 0.0
        self._stopped = False

    def __len__(self) -> int:
        """Connections that were answered and go on; without websockets and long answers."""
        return len(self._counted())

    def _counted(self) -> list[Kept]:
        now = asyncio.get_running_loop().time()
        return [one for one in self._connections if isinstance(one, Kept) and one.counts(now)]

    def move(self, away: Mapping[str, int]) -> None:
        """Move so many connections to the replicas at these addresses, each once it rests.

        This replaces what was ordered before. Chance decides which ones go, so that both busy and quiet ones do.
        """
        for one in self._connections:
            if isinstance(one, Kept) and one.away:
                one.leave_for("")
        kept = self._counted()
        random.shuffle(kept)
        self._move_until = asyncio.get_running_loop().time() + MOVE_SECONDS_MAX
        for address, count in away.items():
            for one in kept[:count]:
                one.leave_for(address)
                self.on_answered(one)
            del kept[:count]

    def on_answered(self, one: Kept) -> None:
        """Move a connection that was told to leave, if it rests now."""
        loop = asyncio.get_running_loop()
        # A drain moves connections itself: to its heirs, not to whom an earlier order named.
        if not one.away or not one.stays() or self._stopped:
            return
        if loop.time() >= self._move_until:
            one.leave_for("")
        elif one.rests():
            address = one.away
            one.leave_for("")
            self._hand_off(one, (address,))
        elif one.is_idle():
            # Its answer is not sent yet. Moved now, its rest would be lost with our buffer.
            loop.call_later(RETRY_SECONDS, self.on_answered, one)

    def hand_off_resting(self, heirs: tuple[str, ...]) -> None:
        """Give every connection that rests to one of these replicas, as long as they take them."""
        for one in [one for one in self._connections if isinstance(one, Kept) and one.rests()]:
            if not self._hand_off(one, heirs):
                return  # they are gone or busy: the next look tries again

    def _hand_off(self, one: Kept, addresses: tuple[str, ...]) -> bool:
        """Whether one of these replicas takes a connection that rests; it is not ours any more then."""
        with one.descriptor() as connection:
            for address in random.sample(addresses, len(addresses)):
                if self._sender.hand_off(connection, self._door, address, kept=True):
                    # Only now: until the other has it, a request that comes in is ours to answer.
                    one.expel()
                    return True
        return False

    def stop(self) -> None:
        """Move nothing any more by earlier orders."""
        self._stopped = True

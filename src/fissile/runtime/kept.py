"""Connections that are kept between two requests, and how one goes to another process without its client noticing.

A connection *rests* when all that was read of it is answered and the answer has been sent. Then its descriptor is all
that there is of it: another process may go on with it (SCM_RIGHTS, unix(7)), and what the client sends meanwhile waits
in the system's buffer. Nothing is closed, so no request can cross a close on its way.
"""

import os
import select
import socket
from collections.abc import Callable
from typing import Any

from uvicorn.config import Config

from fissile.runtime.visitors import Visitor

# An answer that goes on for so long is a stream: who knows when it ends.
LONG_SECONDS = 3.0


class Kept(Visitor):
    """A visitor who may stay for further requests, here or elsewhere.

    away: the replica's address to which it goes once it rests; "": none.
    Nothing is done for it in a usual request: what there is to know is looked up when connections are counted.
    """

    answered = False
    away = ""
    _seen: Any = None
    _seen_at = 0.0

    def __init__(self, config: Config, server_state: Any, app_state: dict[str, Any]) -> None:
        super().__init__(config=config, server_state=server_state, app_state=app_state)
        self._on_answered: Callable[[Kept], None] = server_state.on_answered

    def taken_over(self) -> "Kept":
        """Another process has answered it before."""
        self.answered = True
        return self

    def connection_made(self, transport: Any) -> None:
        """Enter, among those who rest if it was answered before."""
        super().connection_made(transport)
        if self.answered:
            self._go(self.lobby.kept)

    def leave_for(self, address: str) -> None:
        """Go to another replica after one of the next answers, as `rests` will say; "": stay after all."""
        self.away = address
        after = self._answered_away if address else super().on_response_complete
        # Of the request that is under way, and of those that follow.
        self.__dict__["on_response_complete"] = after
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.on_response = after

    def _answered_away(self) -> None:
        super().on_response_complete()
        # In the next turn: what was written has been sent by then, so the connection may rest.
        self.loop.call_soon(self._on_answered, self)

    def stays(self) -> bool:
        """Whether further requests are to be expected: one was answered before, and neither end has closed."""
        cycle = self.cycle
        if cycle is not None and (cycle.response_complete or (self._seen is not None and cycle is not self._seen)):
            self.answered = True
        return self.answered and not self.transport.is_closing() and (cycle is None or cycle.keep_alive)

    def counts(self, now: float) -> bool:
        """Whether it counts among the kept ones at `now` (time of the loop): it stays, and does not have one answer go
        on for long, as a stream does. Somebody has to ask from time to time."""
        stays, cycle = self.stays(), self.cycle
        if cycle is None or cycle.response_complete:
            return stays
        if cycle is not self._seen:
            self._seen, self._seen_at = cycle, now
        return stays and now - self._seen_at < LONG_SECONDS

    def is_idle(self) -> bool:
        """Whether nothing of a request has been read that is not answered."""
        return (
            (self.cycle is None or self.cycle.response_complete)
            and self._in_head
            and not (self._counted or self._held or self.pipeline)
            and self._refused is None
        )

    def rests(self) -> bool:
        """Whether another process may go on with it."""
        return self.stays() and self.is_idle() and not self.transport.get_write_buffer_size()

    def unread(self) -> bool:
        """Whether something has come that was not read: a request, or the client's end. After a stall of this process
        that is seen later than the time by which it should have come."""
        poll = select.poll()
        poll.register(self._socket(), select.POLLIN)
        return bool(poll.poll(0))

    def descriptor(self) -> socket.socket:
        """A copy of it, to be handed over."""
        return socket.socket(fileno=os.dup(self._socket()))

    def _socket(self) -> int:
        return int(self.transport.get_extra_info("socket").fileno())

    def expire(self) -> None:
        """It was silent for too long, unless its request came while nobody looked."""
        if self._group is self.lobby.kept and self.unread():
            self._go(self.lobby.strangers)
        else:
            super().expire()

    def farewell(self) -> bool:
        """Close it, now or after the answer that is under way; False while a request is on its way to us."""
        if self.is_idle() and self.unread():
            return False
        if self._in_head and self._counted and (self.cycle is None or self.cycle.response_complete):
            return False
        self.shutdown()
        return True

"""Who is at a door, what they wait for, and who has to go when it is full.

Most connections stand in one of three groups. A *stranger* has not sent a whole head of a request yet, a *kept* one is
idle after an answer: with both, the server waits for the visitor. One that is *leaving* was refused, and is let read
why. All others are *busy*: a request is under way, or they are websockets. Groups are ordered by how long each has been
there, so that the longest is found at once. One timer for each door looks at all limits of time, instead of one for
each connection.
"""

import asyncio
import logging
import os
import resource
import weakref
from collections import Counter, OrderedDict
from collections.abc import Collection
from itertools import chain
from typing import Any, Protocol

# All times in seconds; they may be passed by up to two looks.
LOOK_SECONDS = 0.5
# From the connection, or the first byte of a further request, to the end of the head.
HEAD_SECONDS_MAX = 10.0
KEEP_ALIVE_SECONDS = 5.0
# Whom the server waits for while a request is under way, to send a body or to read an answer, has to let so many bytes
# pass in so many seconds.
STALL_SECONDS_MAX = 20.0
PROGRESS_BYTES_MIN = 5_000
# How long, and how many at once, those who were refused may read why before the connection is cut.
LEAVING_SECONDS_MAX = 1.0
LEAVING_MAX = 256
# A process keeps so many of its descriptors, or this part of them if that is fewer, for other things than visitors.
RESERVED_DESCRIPTORS = 64
RESERVED_PART = 8
UNLIMITED = 1 << 30
# One line of the log tells of all that were turned away in so many seconds.
TELL_SECONDS = 60.0

log = logging.getLogger("fissile.door")
_lobbies: "weakref.WeakSet[Lobby]" = weakref.WeakSet()


class Present(Protocol):
    """A connection, as its lobby sees it. since: when it came into its group (time of the loop)."""

    since: float

    def expire(self) -> None:
        """It has been in its group for too long: close it, or answer and leave."""
        ...

    def expel(self) -> None:
        """Make room for another at once."""
        ...

    def watch(self, now: float) -> None:
        """If it is busy, look whether it still makes progress."""
        ...


Group = OrderedDict[Present, None]


class Lobby:
    """The connections of one door.

    connections: all of them, websockets among them. tasks: requests under way, also those whose visitor has gone.
    connections_max: how many of them the door has room for, and how many requests.
    """

    def __init__(self, name: str, connections: Collection[Any], tasks: Collection[Any], connections_max: int) -> None:
        self.strangers: Group = OrderedDict()
        self.kept: Group = OrderedDict()
        self.leaving: Group = OrderedDict()
        self.connections = connections
        self.tasks = tasks
        self.connections_max = connections_max
        # There was no room, and nobody to be closed: requests have to ask.
        self.crowded = False
        self.now = 0.0
        self._name = name
        self._loop: asyncio.AbstractEventLoop | None = None
        self._look: asyncio.TimerHandle | None = None
        # How many visitors all doors of this process have descriptors for.
        self._visitors_max = 0
        self._turned_away: Counter[str] = Counter()
        self._told = float("-inf")
        _lobbies.add(self)

    def enter(self, one: Present) -> None:
        """A new connection, which is one of `connections` already."""
        if self._look is None:
            self._begin()
        one.since = self.now
        self.strangers[one] = None
        if self._is_over():
            self.make_room(one)
            self.crowded = self._is_over()
        elif self._visitors() > self._visitors_max:
            self.make_descriptor(one)

    def move(self, one: Present, origin: Group | None, target: Group | None) -> None:
        """From one group to another, where it is the latest; None is to be busy."""
        if origin is not None:
            origin.pop(one, None)
        one.since = self.now
        if target is not None:
            target[one] = None
        if len(self.leaving) > LEAVING_MAX:
            self._longest(self.leaving).expel()

    def make_room(self, newcomer: Present | None) -> bool:
        """Close the longest waiting, of strangers or of kept ones, whichever are more; False if nobody waits."""
        longest = self._longest_waiting(newcomer)
        if longest is None:
            return False
        self.turned_away("closed to make room for others")
        longest.expel()
        return True

    def admits(self, one: Present) -> bool:
        """Whether there is room for a request of this one."""
        if len(self.tasks) >= self.connections_max:
            return False
        self.crowded = self._is_over() and not self.make_room(one)
        return not self.crowded

    def _is_over(self) -> bool:
        return len(self.connections) - len(self.leaving) > self.connections_max

    def turned_away(self, why: str) -> None:
        """Count somebody; the log is told of all together."""
        self._turned_away[why] += 1

    def _longest_waiting(self, newcomer: Present | None) -> Present | None:
        more, fewer = self.strangers, self.kept
        if len(fewer) >= len(more):
            more, fewer = fewer, more
        waiting = chain(more, fewer)
        longest = next(waiting, None)
        return next(waiting, None) if longest is newcomer else longest

    @staticmethod
    def _longest(group: Group) -> Present:
        return next(iter(group))

    def _count(self) -> None:
        """Visitors may have what the process has left, and what they have already."""
        self._visitors_max = max(1, descriptors_left() + self._visitors())

    def spare(self) -> int:
        """How many could come at once without trouble for those who came just before."""
        return max(0, min(len(self.strangers), self._visitors_max - self._visitors()))

    def _visitors(self) -> int:
        return sum(len(lobby.connections) for lobby in _lobbies if lobby._loop is self._loop)

    def time(self) -> float:
        """Of the loop."""
        return self._loop.time() if self._loop is not None else 0.0

    def make_descriptor(self, newcomer: Present | None = None) -> None:
        """The process is short of descriptors: whoever waits longest at its fullest door gives one back."""
        if self.leaving:
            self._longest(self.leaving).expel()
            return
        same_loop = [lobby for lobby in _lobbies if lobby._loop is self._loop]
        fullest = max(same_loop, key=lambda lobby: len(lobby.strangers) + len(lobby.kept))
        fullest.make_room(newcomer)

    def _begin(self) -> None:
        self._loop = loop = asyncio.get_running_loop()
        self.now = loop.time()
        self._count()
        self._look = loop.call_later(LOOK_SECONDS, self._look_around)

    def _look_around(self) -> None:
        assert self._loop is not None
        self.look(self._loop.time())
        more = self.connections or self.leaving or self._turned_away
        self._look = self._loop.call_later(LOOK_SECONDS, self._look_around) if more else None

    def look(self, now: float) -> None:
        """Hold everybody to the limits of time. now: of the loop."""
        self.now = now
        self._count()
        limits = (
            (self.strangers, HEAD_SECONDS_MAX),
            (self.kept, KEEP_ALIVE_SECONDS),
            (self.leaving, LEAVING_SECONDS_MAX),
        )
        for group, limit in limits:
            # `since` is the time of a look, up to one before.
            while group and now - (longest := self._longest(group)).since >= limit + LOOK_SECONDS:
                longest.expire()
                group.pop(longest, None)
        for one in list(self.connections):
            one.watch(now)
        self._tell(now)

    def _tell(self, now: float) -> None:
        if self._turned_away and now - self._told >= TELL_SECONDS:
            self._told = now
            told = "; ".join(f"{count} {why}" for why, count in self._turned_away.most_common())
            log.warning("connections that were turned away at %s: %s", self._name, told)
            self._turned_away.clear()


class Progress:
    """Whether somebody whom the server waits for lets anything pass. A decision: it takes the time as an argument."""

    __slots__ = ("_at", "_done")

    def __init__(self) -> None:
        self._at: float | None = None
        self._done = 0

    def stalled(self, now: float, awaited: bool, done: int) -> bool:
        """Whether it is awaited, and for `STALL_SECONDS_MAX` it has not got on by `PROGRESS_BYTES_MIN`.

        done: bytes that have passed so far, from any beginning.
        """
        if not awaited:
            self._at = None
        elif self._at is None or done - self._done >= PROGRESS_BYTES_MIN:
            self._at, self._done = now, done
        else:
            return now - self._at >= STALL_SECONDS_MAX
        return False


def descriptors_left() -> int:
    """How many more descriptors may be opened for visitors (getrlimit(2), RLIMIT_NOFILE); many where nobody says it."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if soft == resource.RLIM_INFINITY:
        return UNLIMITED
    try:
        # The numbers say nothing: the lowest that is free is given again, whatever is open above it.
        used = len(os.listdir("/dev/fd"))
    except OSError:
        return UNLIMITED
    return soft - min(RESERVED_DESCRIPTORS, soft // RESERVED_PART) - used

"""PURE. What each honest caller of the storm does, by seed.

A worker of a caller's process performs one `Step` after the other for ever; the process stops when it has made its
share of the calls. So what a worker does depends on the seed alone, and only how far it comes on the machine.

Sizes: one call in a hundred carries 1 MB to 8 MB, log-uniform. The others carry 10 B to 1 MB in two log-uniform
pieces: ten in eleven 10 B to 10 KB, one in eleven 10 KB to 1 MB. Plain log-uniform up to 8 MB would put 15 % of
the calls above 1 MB, which is a storm of copies and takes hours. The size is that of the arguments, of the result,
or of both, a third each.

Lanes: who is troubled by what must not trouble others, so they share connections and are judged apart.

- calm: no trouble of its own but cancels. It must get every right answer that it waits for.
- hasty: deadlines that are often too short, on the same connections, with a breaker of its own.
- rough: a connection of its own, which is cut under its calls.
"""

import random
from collections.abc import Iterator
from enum import Enum
from math import exp, log

import msgspec

KB, MB = 1000, 1000 * 1000
BIG_BYTES_MAX = 8 * MB
# What a call has for its deadline where its lane says nothing of deadlines.
PATIENCE_SECONDS = 30.0
BATCH_CALLS_MAX = 8
ITEM_BYTES_MAX = MB


class Lane(Enum):
    """What may befall the calls of a worker; its value is the component that calls."""

    CALM = "Calm"
    HASTY = "Hasty"
    ROUGH = "Rough"


class Ending(Enum):
    """How the calls of a step end."""

    ANSWERED = "answered"
    CANCELLED = "cancelled"  # each at an instant of its own
    ABANDONED = "abandoned"  # all in one turn of the loop
    GROUP = "group"  # by a task group of which another task fails
    DEADLINE = "deadline"
    CUT = "cut"  # their connection is cut


class Cut(Enum):
    """How a connection is cut by its caller."""

    RESET = "reset"  # SO_LINGER 0: TCP says RST
    CLOSE = "close"
    CHANNEL = "channel"  # the whole channel is closed


class Reading(Enum):
    """How a stream is read."""

    WHOLE = "whole"
    LEFT = "left"  # closed in the middle
    PAUSED = "paused"  # not read for a while, then to its end


class Trouble(Enum):
    """What a method raises."""

    DECLARED = "declared"
    UNDECLARED = "undeclared"
    SURROGATES = "surrogates"  # its text cannot be encoded
    UNPRINTABLE = "unprintable"  # its __str__ raises
    EXIT = "exit"
    CANCELLED = "cancelled"  # a CancelledError that nobody asked for


class Act(msgspec.Struct, frozen=True):
    """One call. work: seconds that the callee takes, 0 for none at all. after: seconds until it is cancelled (0: as
    soon as it is on its way) or its deadline, by the step's ending. items: of a stream, 0 for a plain call."""

    key: int
    method: str
    argument_bytes: int
    result_bytes: int
    work: float = 0.0
    after: float = 0.0
    items: int = 0
    reading: Reading = Reading.WHOLE
    trouble: Trouble | None = None

    def told(self) -> str:
        """What it does, in short."""
        asked = f"{self.method} {self.key}, {self.argument_bytes} → {self.result_bytes} B, work {self.work:.6f} s"
        if self.items:
            asked += f", {self.items} items read {self.reading.value}"
        if self.trouble is not None:
            asked += f", raises {self.trouble.value}"
        return f"{asked}, after {self.after:.6f} s"


class Step(msgspec.Struct, frozen=True):
    """Calls that are made at once. over: the transport. after: seconds until the connection is cut, or the batch left
    (0: one turn of the loop)."""

    over: str
    acts: tuple[Act, ...]
    ending: Ending
    after: float = 0.0
    cut: Cut | None = None


# What may come of a call, by the ending of its step, besides its right answer.
ALLOWED: dict[Ending, frozenset[str]] = {
    Ending.ANSWERED: frozenset(),
    Ending.CANCELLED: frozenset({"gone"}),
    Ending.ABANDONED: frozenset({"gone"}),
    Ending.GROUP: frozenset({"gone"}),
    # Its breaker opens after several in a row, and then says so at once.
    Ending.DEADLINE: frozenset({"deadline_exceeded", "breaker open"}),
    Ending.CUT: frozenset({"unavailable", "breaker open"}),
}

TRANSPORTS = ("unix", "tcp")


def lane_of(worker: int) -> Lane:
    """Of four workers two are calm, one is hasty, and one rough."""
    return (Lane.CALM, Lane.ROUGH, Lane.CALM, Lane.HASTY)[worker % 4]


def steps(seed: int, process: int, worker: int) -> Iterator[Step]:
    """What a worker does, without an end."""
    dice = random.Random(f"{seed}/{process}/{worker}")
    lane = lane_of(worker)
    key = worker * 1_000_003 + process * 7
    while True:
        ending = _ending(dice, lane)
        single = ending in (Ending.ANSWERED, Ending.CANCELLED) and dice.random() < 0.5
        count = 1 if single else dice.randint(2, BATCH_CALLS_MAX)
        acts: list[Act] = []
        for _ in range(count):
            key += 1
            acts.append(_act(dice, lane, ending, key))
        # A batch holds one big call at most: eight of eight megabytes would only measure the memory.
        big = [index for index, act in enumerate(acts) if max(act.argument_bytes, act.result_bytes) >= MB]
        for index in big[3:]:
            acts[index] = msgspec.structs.replace(acts[index], argument_bytes=10, result_bytes=10)
        yield Step(
            over=dice.choice(TRANSPORTS),
            acts=tuple(acts),
            ending=ending,
            after=_instant(dice),
            cut=dice.choice(list(Cut)) if ending is Ending.CUT else None,
        )


def _ending(dice: random.Random, lane: Lane) -> Ending:
    if lane is Lane.HASTY:
        return Ending.DEADLINE
    if lane is Lane.ROUGH:
        return Ending.CUT
    drawn = dice.random()
    if drawn < 0.55:
        return Ending.ANSWERED
    if drawn < 0.80:
        return Ending.CANCELLED
    return Ending.ABANDONED if drawn < 0.93 else Ending.GROUP


def _act(dice: random.Random, lane: Lane, ending: Ending, key: int) -> Act:
    size = draw_bytes(dice)
    ways = dice.randrange(3)
    drawn = dice.random()
    work = 0.0 if dice.random() < 0.7 else _log_uniform(dice, 0.0001, 0.02)
    after = _instant(dice)
    if lane is Lane.HASTY:
        after = _log_uniform(dice, 0.0005, 0.1)
        work = after * _log_uniform(dice, 0.01, 5.0) if dice.random() < 0.6 else 0.0
    if drawn < 0.12:
        items = max(dice.choice((0, 1, 3, 10, 100)), size // ITEM_BYTES_MAX + 1)
        return Act(key, "follow", 10, size, work, after, items, dice.choice(list(Reading)))
    if drawn < 0.16:
        return Act(key, "fail", 10, 10, work, after, trouble=dice.choice(list(Trouble)))
    return Act(
        key,
        "echo" if drawn < 0.7 else "keep",
        size if ways != 1 else 10,
        size if ways != 0 else 10,
        work,
        after,
    )


def draw_bytes(dice: random.Random) -> int:
    """The size of what a call carries."""
    drawn = dice.random()
    if drawn < 0.01:
        return int(_log_uniform(dice, MB, BIG_BYTES_MAX))
    if drawn < 0.10:
        return int(_log_uniform(dice, 10 * KB, MB))
    return int(_log_uniform(dice, 10, 10 * KB))


def _instant(dice: random.Random) -> float:
    """When something is given up, seconds: one time in three at once."""
    return 0.0 if dice.random() < 1 / 3 else _log_uniform(dice, 0.00001, 0.05)


def _log_uniform(dice: random.Random, low: float, high: float) -> float:
    return exp(dice.uniform(log(low), log(high)))

"""PURE. What each hostile peer of the storm does, by seed: bytes of docs/reference/wire.md, right and wrong.

The frames are packed here anew, by the document alone: what the product packs is what the product expects.
A `Session` is one connection from its beginning to its end.
"""

import random
from collections.abc import Callable, Iterator
from enum import Enum
from math import exp, log
from struct import Struct

import msgspec

HELLO, WELCOME, REQUEST, RESPONSE, ERROR, CANCEL, ITEM, END, CREDIT, PING, PONG, GOAWAY = range(1, 13)
_HEADER = Struct("<IBI")
_REQUEST = Struct("<IBIHHBI16sQ16s")
_encode = msgspec.msgpack.encode
NO_LIMIT = 0xFFFFFFFF
CONTEXT = 2


class Leave(Enum):
    """How a session ends."""

    RESET = "reset"  # SO_LINGER 0: TCP says RST
    CLOSE = "close"
    CLOSED = "closed"  # the callee closes it


class Send(msgspec.Struct, frozen=True):
    """Write bytes; pieces: in so many writes, cut anywhere."""

    data: bytes
    pieces: int = 1


class Await(msgspec.Struct, frozen=True):
    """Read frames until the handshake is answered."""


class Read(msgspec.Struct, frozen=True):
    """Read until so many calls are answered; step: bytes at once, pause: seconds between two reads."""

    answers: int
    step: int = 65536
    pause: float = 0.0


class Wait(msgspec.Struct, frozen=True):
    """Do nothing for so many seconds."""

    seconds: float


class Session(msgspec.Struct, frozen=True):
    """One connection. calls: how many of the storm's calls it stands for. offence: it breaks the protocol, so that
    the callee closes it and may say so in one line of its log. long: it holds its connection for seconds."""

    name: str
    over: str
    moves: tuple[Send | Await | Read | Wait, ...]
    leave: Leave
    calls: int
    offence: bool = False
    long: bool = False

    def told(self) -> str:
        """What it does, in short."""
        told = (
            f"send {len(move.data)} bytes {move.data[:24].hex()}…{move.data[-24:].hex()}"
            if isinstance(move, Send)
            else str(move)
            for move in self.moves
        )
        return f"{self.name} over {self.over}: {', '.join(told)}, {self.leave.value}"


class Known(msgspec.Struct, frozen=True):
    """What a peer must know to be let in. methods: index by "Component.method"."""

    token: str
    service: str
    callers: tuple[str, ...]
    contracts: dict[str, str]
    methods: dict[str, int]


def frame(kind: int, call: int, body: bytes = b"", *, length: int | None = None) -> bytes:
    """A frame, with the length that is claimed."""
    return _HEADER.pack(5 + len(body) if length is None else length, kind, call) + body


class Peer:
    """Packs what one connection sends; calls are numbered from 1."""

    def __init__(self, known: Known, dice: random.Random) -> None:
        self.known = known
        self.dice = dice
        self.call = 0

    def hello(self, **other: object) -> bytes:
        """A hello, with some of it replaced."""
        known = self.known
        told = {
            "version": 1,
            "token": known.token,
            "service": known.service,
            "callers": list(known.callers),
            "contracts": known.contracts,
            **other,
        }
        return frame(HELLO, 0, _encode(list(told.values())))

    def request(
        self,
        method: str = "Store.echo",
        values: object = None,
        *,
        size: int = 10,
        work: float = 0.0,
        timeout_ms: int = 2000,
        call: int | None = None,
        index: int | None = None,
        caller: int = 0,
        release: bytes = b"",
        body: bytes | None = None,
        flags: int = 0,
        context: bytes | None = None,
        context_bytes: int | None = None,
    ) -> bytes:
        """A request: right, unless it is told otherwise. context: the variables, encoded; context_bytes: the length
        that is claimed for them."""
        if call is None:
            self.call += 1
            call = self.call
        if body is None:
            if values is None:
                last = size if method != "Store.follow" else max(size, 40)
                middle: object = b"argument" if method != "Store.follow" else 40
                values = [call, middle, last, work]
            body = _encode(values)
        if context is not None:
            flags |= CONTEXT
            body = (len(context) if context_bytes is None else context_bytes).to_bytes(2, "little") + context + body
        number = self.known.methods[method] if index is None else index
        head = _REQUEST.pack(
            _REQUEST.size - 4 + len(body), REQUEST, call, number, caller, flags, timeout_ms, b"\1" * 16, 7, release
        )
        return head + body

    def requests(self, count: int, **how: object) -> bytes:
        """Several."""
        return b"".join(self.request(**how) for _ in range(count))  # pyright: ignore[reportArgumentType]

    def size(self, most: int = 20_000) -> int:
        """A size of an answer, log-uniform from 10 B."""
        return int(exp(self.dice.uniform(log(10), log(most))))


Attack = Callable[[Peer], tuple[tuple[Send | Await | Read | Wait, ...], Leave, bool]]


def _opened(peer: Peer, *moves: Send | Await | Read | Wait) -> tuple[Send | Await | Read | Wait, ...]:
    return (Send(peer.hello()), Await(), *moves)


def _leave(peer: Peer) -> Leave:
    return peer.dice.choice((Leave.RESET, Leave.CLOSE))


def never_read(peer: Peer) -> tuple[tuple[Send | Await | Read | Wait, ...], Leave, bool]:
    """Requests whose answers are never read."""
    sent = b"".join(
        peer.request(size=peer.size(200_000), work=peer.dice.choice((0.0, 0.001)))
        for _ in range(peer.dice.randint(5, 40))
    )
    return _opened(peer, Send(sent), Wait(peer.dice.choice((0.0, 0.01, 0.05)))), _leave(peer), False


def cancelled_at_once(peer: Peer) -> tuple[tuple[Send | Await | Read | Wait, ...], Leave, bool]:
    """Requests and their cancels in one packet."""
    sent = b""
    for _ in range(peer.dice.randint(5, 40)):
        sent += peer.request(peer.dice.choice(("Store.echo", "Store.follow")), size=peer.size(), work=0.01)
        sent += frame(CANCEL, peer.call)
    # Cancels of calls that ended before are no offence.
    return _opened(peer, Send(sent + frame(CANCEL, 1) * 3), Send(peer.request()), Read(1)), _leave(peer), False


def cut_off(peer: Peer) -> tuple[tuple[Send | Await | Read | Wait, ...], Leave, bool]:
    """Requests in flight, half of another, and gone."""
    sent = peer.requests(peer.dice.randint(1, 40), work=0.005)
    half = peer.request(size=100)
    return _opened(peer, Send(sent + half[: peer.dice.randrange(1, len(half))])), _leave(peer), False


def no_credit(peer: Peer) -> tuple[tuple[Send | Await | Read | Wait, ...], Leave, bool]:
    """Streams to which no credit is given."""
    sent = peer.requests(peer.dice.randint(1, 4), method="Store.follow", size=2_000_000)
    return _opened(peer, Send(sent), Read(0, pause=0.01), Wait(peer.dice.choice((0.0, 0.05, 0.3)))), _leave(peer), False


def pings(peer: Peer) -> tuple[tuple[Send | Await | Read | Wait, ...], Leave, bool]:
    """A flood of pings, unread or read."""
    flood = b"".join(frame(PING, peer.dice.getrandbits(32)) for _ in range(2000)) * peer.dice.randint(1, 10)
    return _opened(peer, Send(flood), Send(peer.requests(3))), _leave(peer), False


def slow_reader(peer: Peer) -> tuple[tuple[Send | Await | Read | Wait, ...], Leave, bool]:
    """Large answers, read in small bites."""
    sent = peer.requests(peer.dice.randint(2, 8), size=peer.dice.choice((100_000, 400_000)))
    return _opened(peer, Send(sent), Read(10**6, step=4096, pause=0.005)), _leave(peer), False


def in_crumbs(peer: Peer) -> tuple[tuple[Send | Await | Read | Wait, ...], Leave, bool]:
    """Right requests in small pieces."""
    count = peer.dice.randint(1, 20)
    sent = peer.requests(count, size=peer.size())
    return _opened(peer, Send(sent, peer.dice.randint(2, 40)), Read(count)), _leave(peer), False


def refused(peer: Peer) -> tuple[tuple[Send | Await | Read | Wait, ...], Leave, bool]:
    """Requests that are answered with an error: arguments or variables of rubbish, no time, a caller who may
    not call."""
    kinds: list[dict[str, object]] = [
        {"body": b"\xc1"},
        {"body": b""},
        {"body": _encode(["one", 2])},
        {"body": b"\x94" + b"\x91" * 3000},
        {"timeout_ms": 0},
        {"timeout_ms": 1, "work": 0.01},
        {"caller": 77},
        {"flags": 0xFD},
        {"context": b"\xc1"},
        {"context": b"\x91" * 8000},
        {"context": _encode({"unknown": 1})},
        {"context": _encode({"visitor": "no number"})},
        {"context": _encode({"visitor": [1]})},
        {"release": b"r-" + bytes([peer.dice.randrange(48, 58) for _ in range(10)])},
    ]
    count = peer.dice.randint(5, 30)
    sent = b"".join(peer.request(**peer.dice.choice(kinds)) for _ in range(count))  # pyright: ignore[reportArgumentType]
    return _opened(peer, Send(sent), Read(count)), _leave(peer), False


def malformed_behind_valid(peer: Peer) -> tuple[tuple[Send | Await | Read | Wait, ...], Leave, bool]:
    """Valid requests and one malformed frame in a packet."""
    valid = peer.requests(peer.dice.randint(1, 40), size=peer.size(), work=peer.dice.choice((0.0, 0.01)))
    behind = peer.dice.choice((b"", peer.requests(3)))
    return _opened(peer, Send(valid + _malformed(peer) + behind)), Leave.CLOSED, True


def _malformed(peer: Peer) -> bytes:
    """A frame that is in none of the tables. Every one is written out, so that all are tried."""
    dice = peer.dice
    stream = peer.request("Store.follow", size=300_000)
    wrong: tuple[Callable[[], bytes], ...] = (
        lambda: frame(CANCEL, 1, length=0),
        lambda: frame(CANCEL, 1, length=4),
        lambda: frame(CANCEL, 1, length=2**24 + 1),
        lambda: frame(CANCEL, 1, length=2**32 - 1),
        lambda: frame(0, 1),
        lambda: frame(dice.randint(13, 255), 1),
        lambda: frame(dice.choice((WELCOME, RESPONSE, ERROR, ITEM, END)), 1, b"\xc0"),
        lambda: frame(HELLO, 0, b"\xc0"),
        lambda: peer.hello(),
        lambda: peer.request(call=0),
        lambda: peer.request(call=1),
        lambda: frame(REQUEST, peer.call + 1, bytes(dice.randrange(48))),
        lambda: peer.request(index=65535),
        lambda: peer.request(release=b"\xff" * 16),
        lambda: peer.request(context=bytes(8193)),
        lambda: peer.request(context=b"\x80", context_bytes=5000),
        lambda: frame(CANCEL, peer.call + 1000),
        lambda: frame(CREDIT, peer.call, b"\1"),
        lambda: frame(CREDIT, peer.call, b"\1" * 5),
        lambda: stream + frame(CREDIT, peer.call, b"\xff" * 4),
        lambda: dice.randbytes(3) + b"\xff" + dice.randbytes(300),
    )
    return dice.choice(wrong)()


def wrong_hello(peer: Peer) -> tuple[tuple[Send | Await | Read | Wait, ...], Leave, bool]:
    """A handshake that is none."""
    dice = peer.dice
    nested = b"\x91" * 200_000 + b"\xc0"
    wrong: tuple[Callable[[], bytes], ...] = (
        lambda: frame(HELLO, 0, nested),
        lambda: frame(HELLO, 0, b"\x95\x01\xa1t\xa1s" + b"\x91" * 100_000 + b"\xc0\x80"),
        lambda: peer.hello() + peer.hello(),
        lambda: peer.hello(token="guess"),
        lambda: peer.hello(token="guess") + peer.hello(),
        lambda: peer.hello(token="\x00\n\r" * 100),
        lambda: peer.hello(version=2),
        lambda: peer.hello(version=-1),
        lambda: peer.hello(version=2**63),
        lambda: peer.hello(service="other"),
        lambda: peer.hello(service="a\nb" * 1000),
        lambda: peer.hello(callers=["Store"]),
        lambda: peer.hello(callers=[f"line\n{number}" for number in range(1000)]),
        lambda: peer.hello(callers=[1]),
        lambda: frame(HELLO, 0, b"\x95\x01\xa1\xff\xa1s\x90\x80"),
        lambda: frame(HELLO, 0, _encode({"version": 1})),
        lambda: frame(HELLO, 0, b""),
        lambda: frame(HELLO, 0, length=256 * 1024 + 1),
        lambda: b"GET / HTTP/1.1\r\nHost: store\r\n\r\n",
        lambda: frame(PING, 1),
        lambda: peer.requests(3),
        lambda: frame(GOAWAY, 0, _encode(["no", True])),
    )
    return (Send(dice.choice(wrong)()),), Leave.CLOSED, True


def many_callers(peer: Peer) -> tuple[tuple[Send | Await | Read | Wait, ...], Leave, bool]:
    """A handshake as long as it may be, then a call."""
    contracts = {f"Store.unknown{index}": "f" * 16 for index in range(5000)}
    sent = peer.hello(contracts={**peer.known.contracts, **contracts})
    return (Send(sent), Await(), Send(peer.request()), Read(1)), _leave(peer), False


def silent(peer: Peer) -> tuple[tuple[Send | Await | Read | Wait, ...], Leave, bool]:
    """Never a hello, or half of one."""
    return (Send(peer.hello()[: peer.dice.choice((0, 3, 20))]),), Leave.CLOSED, True


def starved_streams(peer: Peer) -> tuple[tuple[Send | Await | Read | Wait, ...], Leave, bool]:
    """Streams that wait for credit, not so long that the callee takes its connection for dead."""
    sent = peer.requests(4, method="Store.follow", size=1_000_000, timeout_ms=NO_LIMIT)
    return _opened(peer, Send(sent), Wait(peer.dice.uniform(1.0, 2.0))), _leave(peer), False


# By how often each is drawn. The last two hold their connections for seconds.
ATTACKS: dict[Attack, int] = {
    never_read: 12,
    cancelled_at_once: 20,
    cut_off: 14,
    no_credit: 4,
    pings: 3,
    slow_reader: 3,
    in_crumbs: 10,
    refused: 10,
    malformed_behind_valid: 20,
    wrong_hello: 8,
    many_callers: 1,
}
LONG_ATTACKS: dict[Attack, int] = {silent: 1, starved_streams: 1}


def sessions(seed: int, worker: int, known: Known, *, long: bool = False) -> Iterator[Session]:
    """What one hostile worker does, connection after connection, without an end."""
    dice = random.Random(f"{seed}/hostile/{worker}")
    attacks = LONG_ATTACKS if long else ATTACKS
    while True:
        (attack,) = dice.choices(list(attacks), list(attacks.values()))
        peer = Peer(known, dice)
        moves, leave, offence = attack(peer)
        yield Session(
            name=attack.__name__.replace("_", " "),
            over=dice.choice(("unix", "tcp")),
            moves=moves,
            leave=leave,
            calls=max(1, peer.call),
            offence=offence,
            long=long,
        )

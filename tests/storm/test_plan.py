"""The plan of the storm, its hostile peers, and its verdict: they are what they say, or the storm proves nothing."""

import random
from collections import Counter
from itertools import islice

import pytest

from fissile.rpc.channel import contracts_of
from fissile.wire.connection import Connection
from fissile.wire.frames import Hello, Welcome
from fissile.wire.state import ProtocolError, Role
from tests.storm import malice
from tests.storm.caller import Pulse
from tests.storm.gauges import off
from tests.storm.malice import Known, Leave, Peer, Send, sessions
from tests.storm.plan import (
    BATCH_CALLS_MAX,
    BIG_BYTES_MAX,
    MB,
    Cut,
    Ending,
    Lane,
    Reading,
    Trouble,
    draw_bytes,
    lane_of,
    steps,
)
from tests.storm.store import CALLER, CALLERS, GRAPH, INTERFACE, SERVICE, TOKEN, content
from tests.storm.verdict import Seen, judge

METHODS = {method.label: index for index, method in enumerate(INTERFACE.methods.values())}
KNOWN = Known(TOKEN, CALLER, CALLERS, contracts_of([INTERFACE]), METHODS)


def test_the_same_seed_raises_the_same_storm() -> None:
    def drawn(seed: int, worker: int) -> list[str]:
        return [repr(step) for step in islice(steps(seed, 0, worker), 200)]

    for worker in range(4):
        assert drawn(1, worker) == drawn(1, worker)
        assert drawn(1, worker) != drawn(2, worker)
    assert drawn(1, 0) != drawn(1, 4)


def test_one_size_in_a_hundred_is_large() -> None:
    dice = random.Random(1)
    sizes = [draw_bytes(dice) for _ in range(100_000)]
    assert 10 <= min(sizes) < 12
    assert BIG_BYTES_MAX * 0.98 < max(sizes) <= BIG_BYTES_MAX
    assert 0.008 < sum(size >= MB for size in sizes) / len(sizes) < 0.012


def test_everything_is_tried() -> None:
    """Each ending, method, trouble, way to read and way to cut, over both transports."""
    seen: Counter[object] = Counter()
    for worker in range(4):
        for step in islice(steps(1, 0, worker), 2000):
            assert 1 <= len(step.acts) <= BATCH_CALLS_MAX
            seen.update([step.over, step.ending, step.cut])
            seen["at once"] += step.ending is Ending.ABANDONED and not step.after
            for act in step.acts:
                seen.update([act.method, act.trouble, act.reading if act.items else None])
                seen["cancelled at once"] += step.ending is Ending.CANCELLED and not act.after
    wanted = [*Ending, *Cut, *Reading, *Trouble, "unix", "tcp", "echo", "keep", "follow", "fail"]
    assert not [one for one in [*wanted, "at once", "cancelled at once"] if seen[one] < 10]


def test_no_key_is_drawn_twice() -> None:
    """A key tells whose answer it is."""
    keys = [act.key for worker in range(4) for step in islice(steps(1, 0, worker), 500) for act in step.acts]
    assert len(keys) == len(set(keys))
    assert content(1, 100) != content(2, 100)


def test_calm_callers_have_no_trouble_but_cancels() -> None:
    for worker in range(12):
        endings = {step.ending for step in islice(steps(3, 1, worker), 300)}
        if lane_of(worker) is Lane.CALM:
            assert endings <= {Ending.ANSWERED, Ending.CANCELLED, Ending.ABANDONED, Ending.GROUP}
        else:
            assert endings == {Ending.DEADLINE if lane_of(worker) is Lane.HASTY else Ending.CUT}


def taken(data: list[bytes]) -> str:
    """What a callee that knows no shell says of these pieces; "" if they are right."""
    wire = Connection(Role.CALLEE)

    def act(event: object) -> None:
        name = type(event).__name__
        if name == "HelloReceived":
            hello = event.hello  # type: ignore[attr-defined]
            if (hello.version, hello.token, hello.service) != (1, TOKEN, CALLER) or set(hello.callers) - set(CALLERS):
                raise ProtocolError("refused")
            wire.accept(Welcome(1, SERVICE, METHODS))
        elif name == "Request":
            if event.method >= len(METHODS):  # type: ignore[attr-defined]
                raise ProtocolError("no such method")
            if event.method == METHODS["Store.follow"]:  # type: ignore[attr-defined]
                wire.open_stream(event.call)  # type: ignore[attr-defined]

    try:
        for piece in data:
            wire.receive(piece, act)
    except ProtocolError as error:
        return str(error)
    return ""


def test_offences_are_offences_and_nothing_else_is() -> None:
    """Judged by the wire itself: what a session calls an offence is refused, and every other is taken."""
    seen: Counter[str] = Counter()
    for session in islice(sessions(1, 0, KNOWN), 3000):
        told = taken([move.data for move in session.moves if isinstance(move, Send)])
        # Half a frame that promises too much, and then nothing, is only known by its length.
        assert bool(told) == session.offence, f"{session.told()}: {told!r}"
        assert not session.offence or session.leave is Leave.CLOSED
        seen[session.name] += 1
    assert set(seen) == {attack.__name__.replace("_", " ") for attack in malice.ATTACKS}


def test_a_peer_packs_what_the_product_packs() -> None:
    """By the document alone, and the same to the byte."""
    wire = Connection(Role.CALLER)
    wire.hello(Hello(1, TOKEN, CALLER, CALLERS, KNOWN.contracts))
    peer = Peer(KNOWN, random.Random(1))
    assert peer.hello() == bytes(wire.take())
    trace = int.from_bytes(b"\1" * 16, "big")
    wire.send_request(None, (1, b"argument", 10, 0.0), METHODS["Store.echo"], 0, 2000, trace, 7, False, "", False)
    assert peer.request() == bytes(wire.take())
    assert set(GRAPH.components) == {*CALLERS, "Store"}


def seen(name: str, **more: object) -> Seen:
    return Seen(name, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("broken", "promise"),
    [
        ({"gauges": {"running": 1}}, "no gauge"),
        ({"log": ["Traceback (most recent call last):"]}, "log"),
        ({"log": ["WARNING fissile.rpc: one", "WARNING fissile.rpc: two", "WARNING fissile.rpc: three"]}, "log"),
        ({"rss": [(0.05, 200), (0.1, 99), (0.12, 100), (0.15, 101), (0.9, 106)], "rss_end": 106}, "memory"),
    ],
)
def test_each_promise_can_be_broken(broken: dict[str, object], promise: str) -> None:
    calm = judge(seen("callee"), [seen("caller")], seen("hostile", offences=2), [], memory=True)
    assert all(one.kept for one in calm)
    judged = judge(seen("callee", **broken), [seen("caller")], seen("hostile", offences=2), [], memory=True)
    assert [promise in one.name for one in judged if not one.kept] == [True]


def test_a_process_without_the_processor_is_told_from_a_busy_one() -> None:
    """Beats at 1.0, 1.1 and 3.1 s: two seconds without a turn, in which it had 0.5 s of the processor."""
    pulse = Pulse()
    pulse.beats.clear()
    pulse.beats.extend([(1.0, 0.0), (1.1, 0.1), (3.1, 0.6)])
    assert pulse.starved(1.0, 3.1) == pytest.approx(1.5)
    assert pulse.starved(1.0, 1.1) == 0.0
    pulse.beats[-1] = (3.1, 2.1)
    assert pulse.starved(1.0, 3.1) == pytest.approx(0.0)


def test_what_is_off() -> None:
    assert off({"a": 1, "b": 2}, {"b": 3, "c": 1}) == {"a": -1, "b": 1, "c": 1}

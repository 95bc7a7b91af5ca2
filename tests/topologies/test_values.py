"""Every kind of value and every kind of error, the same in every topology and over HTTP/JSON."""

import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from fissile import Application, DeclarationError, component
from fissile.daemon.inspection import open_project
from fissile.errors import CallError, RemoteError
from fissile.rpc.deadline import environment
from fissile.rpc.http.client import HttpChannel, http_reference
from fissile.rpc.http.gateway import Gateway
from fissile.rpc.route import Route
from fissile.rpc.server import Export
from fissile.runtime.edge import Edge
from fissile.runtime.host import Host
from fissile.testing.worlds import RUNNERS, open_world

KINDS = Path(__file__).parent / "kinds"
TOPOLOGIES = (*RUNNERS, "http")


@asynccontextmanager
async def over_http() -> AsyncIterator[Any]:
    """What a component holds of one that speaks HTTP/JSON; here it is the application itself that does."""
    graph = open_project(KINDS, topology="monolith").graph
    host = Host(graph, graph.components, config={}, environment=environment())
    await host.start()
    interface = graph.components["Mirror"].interface
    exports = {"Mirror": Export(interface, host.reference("Mirror", "Mirror"))}
    edge = Edge(Gateway(exports, authorize=lambda token: token == "right", title="kinds"))
    sock = socket.create_server(("127.0.0.1", 0))
    await edge.start(sock)
    channel = HttpChannel("mirror", [f"http://127.0.0.1:{sock.getsockname()[1]}"], token="right")
    try:
        yield http_reference(interface, Route(channel))
    finally:
        await channel.close()
        await edge.drain(1.0, idle_seconds_max=0.0)
        await host.stop()


@asynccontextmanager
async def mirror_in(topology: str, state: Path) -> AsyncIterator[tuple[Any, Any]]:
    """The module of the application, and a reference to its component in this topology."""
    if topology == "http":
        async with over_http() as reference:
            yield sys.modules["kinds"], reference
    else:
        async with open_world(topology, KINDS, state=state) as world:
            yield sys.modules["kinds"], world.reference("Mirror")


@pytest.mark.parametrize("topology", TOPOLOGIES)
async def test_every_kind_of_value_arrives_as_it_is(topology: str, tmp_path: Path) -> None:
    wrong: list[str] = []
    async with mirror_in(topology, tmp_path) as (module, mirror):
        for name, (_, values) in module.KINDS.items():
            for value in values:
                wanted = module.look(value)
                try:
                    found = {
                        "argument": await getattr(mirror, f"takes_{name}")(value),
                        "result": module.look(await getattr(mirror, f"gives_{name}")(value)),
                        "items": [module.look(item) async for item in getattr(mirror, f"each_{name}")(value)],
                    }
                except CallError as error:
                    wrong.append(f"{name} {wanted[:80]}: {error}")
                    continue
                assert module.look(value) == wanted, "the call has altered its argument"
                if found != {"argument": wanted, "result": wanted, "items": [wanted, wanted]}:
                    wrong.append(f"{name} {wanted[:80]}: {str(found)[:400]}")
        told = (1, 1.0, [3], module.MOMENTS[2], (module.Frozen("a"),), module.Mutable("m"))
        for _ in range(2):  # a callee that alters a default alters that of no other call
            assert await mirror.defaults(1) == module.look(told)
        assert await mirror.defaults(second=2.5, first=1, third=[]) == module.look((1, 2.5, [], *told[3:]))
    assert wrong == []


def shown(error: BaseException | None) -> Any:
    """What a caller can make of an exception, without places in files."""
    if error is None:
        return None
    found: dict[str, Any] = {"is": type(error).__qualname__, "text": str(error)}
    if isinstance(error, CallError):
        names = ("origin", "remedy", "type_name", "retry_after_seconds")
        found |= {name: told for name in names if (told := getattr(error, name, None))}
    else:
        found |= {"args": error.args if not isinstance(error, ExceptionGroup) else error.args[0]}
        found |= {name: sys.modules["kinds"].look(told) for name, told in vars(error).items()}
    if isinstance(error, ExceptionGroup):
        found["parts"] = [shown(part) for part in error.exceptions]
    if error.__cause__ is not None:
        found["cause"] = shown(error.__cause__)
    return found


def remote(where: str, name: str, message: str, **more: Any) -> dict[str, Any]:
    said = f"{name} in {where}: {message}"
    return {"is": "RemoteError", "text": said, "origin": where, "type_name": name, **more}


def wanted(where: str) -> dict[str, Any]:
    """What each failure is to its caller. where: the method that failed."""

    def refused(at: str) -> dict[str, Any]:
        told = {"reason": "str:'no'", "at": f"datetime:{at}"}
        return {"is": "Refused", "text": "no", "args": ("no",), **told}

    def kept(what: str, parts: str) -> dict[str, Any]:
        return {"is": "Kept", "text": what, "args": (what,), "what": f"str:{what!r}", "parts": parts}

    parts = [refused("2026-07-01T00:30:00+05:45"), remote(where, "kinds.Unnamed", "u")]
    lost = "caf\\udce9"
    group = "two (2 sub-exceptions)"
    missing = {"errno": 2, "strerror": "No such file", "filename": "a.txt"}
    found: dict[str, Any] = {
        "declared": refused("2026-07-01T00:30:00+05:45"),
        "kept": kept("what", "tuple:['int:1', 'int:2']"),
        "args": kept("w", "tuple:[]"),
        "odd args": kept(lost, f"tuple:['int:{2**70}']") | {"cause": remote(where, "KeyError", f"'{lost}'")},
        "builtin": {
            "is": "FileNotFoundError",
            "text": "[Errno 2] No such file: 'a.txt'",
            "args": tuple(missing.values())[:2],
        },
        "timeout": {"is": "TimeoutError", "text": "mine", "args": ("mine",)},
        "quiet": remote(where, "kinds.Quiet", "<Quiet whose text cannot be made: RuntimeError>"),
        "cause": refused("2026-07-01T00:30:00")
        | {"cause": remote(where, "KeyError", "'k'", cause=kept("first", "tuple:['int:1']"))},
        "cause of undeclared": remote(where, "kinds.Unnamed", "u", cause=refused("2026-07-01T00:30:59.999999+00:00")),
        "group": {"is": "Several", "text": group, "args": "two", "parts": parts},
        "undeclared group": remote(where, "ExceptionGroup", group),
        "undeclared": remote(where, "kinds.Unnamed", "u"),
        "no text": remote(where, "ValueError", f"('{lost}', {2**70})"),
        "exit": remote(where, "SystemExit", "3"),
        "interrupt": remote(where, "KeyboardInterrupt", ""),
        "cancelled": remote(where, "asyncio.exceptions.CancelledError", "from inside"),
        "remote": remote("Deep.down", "KeyError", "m"),
        "own kind": {"is": "Unavailable", "text": "away\n  \u2192 wait", "origin": where, "remedy": "wait"},
        "overloaded": {"is": "Overloaded", "text": "full", "origin": where, "retry_after_seconds": 2.5},
        "overloaded for ever": {"is": "Overloaded", "text": "full", "origin": where},
    }
    for kind in (
        "Unavailable",
        "DeadlineExceeded",
        "Cancelled",
        "PermissionDenied",
        "IncompatibleContract",
        "InvalidArgument",
    ):
        code = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in kind)[1:]
        found[code] = {"is": kind, "text": "m\n  \u2192 r", "origin": "Deep.down", "remedy": "r"}
    return found


@pytest.mark.parametrize("topology", TOPOLOGIES)
async def test_every_kind_of_error_arrives_alike(topology: str, tmp_path: Path) -> None:
    wrong: list[Any] = []
    async with mirror_in(topology, tmp_path) as (module, mirror):

        async def stream(how: str) -> None:
            assert [item async for item in mirror.fail_later(how)] == [1]

        for call, where in ((mirror.fail, "Mirror.fail"), (stream, "Mirror.fail_later")):
            known = wanted(where)
            for how in module.FAILURES:
                try:
                    await call(how)
                    found: Any = "nothing"
                except BaseException as error:
                    found = shown(error)
                    if isinstance(error, RemoteError) and topology != "http" and not error.traceback_text:
                        wrong.append((how, "no trace"))
                    if error.__context__ is not None and not error.__suppress_context__:
                        wrong.append((how, "its context shows", error.__context__))
                if found != known.get(how):
                    wrong.append((where, how, found, known.get(how)))
        assert await mirror.ready()
    assert wrong == []


class Complex(Exception):
    value: complex


def test_what_cannot_arrive_is_a_mistake_of_the_declaration() -> None:
    @component(raises=(Complex,))
    class Wrong:
        async def number(self, value: complex) -> None: ...

        async def thing(self) -> object: ...

        async def items(self) -> AsyncIterator[memoryview]:
            yield memoryview(b"")

        async def text(self, value: str = None) -> None: ...  # type: ignore[assignment]  # noqa: RUF013

    with pytest.raises(DeclarationError) as caught:
        Application(Wrong)
    for name in ("number", "thing", "text"):
        assert any(mistake.startswith(f"Wrong.{name}: ") for mistake in caught.value.mistakes), name
    assert "'value' of Complex cannot be encoded" in str(caught.value)

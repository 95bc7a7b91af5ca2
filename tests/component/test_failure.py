"""An exception as data: what its caller gets, whatever an author, or a peer, has put into it."""

import copy
import math
import traceback
from typing import Any

import msgspec
import pytest

from fissile import Application, component, method
from fissile.component.failure import FAILURE_BYTES_MAX, Failure, from_failure, to_failure, translate
from fissile.component.interface import Method
from fissile.errors import CallError, Overloaded, RemoteError, Unavailable


class Refused(Exception):
    reason: str
    left: int

    def __init__(self, reason: str, *, left: int = 0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.left = left


class Several(ExceptionGroup[Exception]):
    """A declared group."""


class StrangeText(Exception):
    def __str__(self) -> str:
        raise SystemExit(3)


class Broken(Unavailable):
    """An author's own kind of an error of the platform."""


@component(raises=(Refused, Several, StrangeText, FileNotFoundError))
class Till:
    async def pay(self) -> None: ...


PAY: Method = Application(Till).components["Till"].interface.methods["pay"]


def across(error: BaseException) -> Exception:
    """As a caller in another process gets it."""
    body = msgspec.msgpack.encode(to_failure(error, PAY))
    return from_failure(msgspec.msgpack.decode(body, type=Failure), PAY)


def raised(error: BaseException, cause: BaseException | None = None) -> BaseException:
    """The error as it is when it was raised."""
    try:
        if cause is not None:
            raise error from cause
        raise error
    except BaseException as caught:
        return caught


def looks(error: BaseException | None) -> Any:
    """All that a caller can see of an exception, but the lines of its text."""
    if error is None:
        return None
    parts = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
    seen = {name: value for name, value in vars(error).items() if name != "traceback_source"}
    text = error.traceback_text if isinstance(error, RemoteError) else ""
    said = str(error) if not isinstance(error, StrangeText) else ""
    return [type(error), error.args if not parts else error.args[0], said, seen, text, looks(error.__cause__)] + [
        looks(part) for part in parts
    ]


holding_itself: list[Any] = []
holding_itself.append(holding_itself)


class Unreadable:
    def __repr__(self) -> str:
        raise KeyboardInterrupt


@pytest.mark.parametrize(
    "error",
    [
        Refused("no", left=3),
        Refused("caf\udce9", left=2**70),
        Refused("x" * 10_000_000),
        KeyError(*["x" * 1_000_000] * 60),
        Refused(*["x" * 1_000_000] * 1),
        Several("many", [Refused("x" * 900_000) for _ in range(60)]),
        Refused(holding_itself),  # type: ignore[arg-type]
        Refused(Unreadable()),  # type: ignore[arg-type]
        Refused({"deep": ["caf\udce9", 2**90, -(2**63)]}),  # type: ignore[arg-type]
        Refused(10**5000),  # type: ignore[arg-type]
        StrangeText("quiet"),
        KeyError("caf\udce9", 2**70),
        SystemExit(4),
        KeyboardInterrupt(),
        FileNotFoundError(2, "No such file", "/caf\udce9"),
        Several("two", [Refused("no", left=1), KeyError("k")]),
        ExceptionGroup("two", [Refused("no"), ExceptionGroup("inner", [KeyError("k")])]),
        BaseExceptionGroup("two", [SystemExit(1)]),
        Overloaded("full", retry_after_seconds=math.nan),
        Overloaded("full", retry_after_seconds=10**400),
        Unavailable(holding_itself, remedy=3),  # type: ignore[arg-type]
        Broken("away", origin="Deep.down", remedy="look"),
        CallError("bare"),
        RemoteError("m", type_name="caf\udce9", traceback_text="t\udce9" * 100_000),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_caller_gets_the_same_in_every_topology(error: BaseException) -> None:
    error = raised(error)
    found = across(error)
    assert looks(translate(error, PAY)) == looks(found)
    assert found is not error
    assert len(msgspec.msgpack.encode(to_failure(error, PAY))) <= FAILURE_BYTES_MAX
    assert found.__suppress_context__


def test_a_declared_error_arrives_whole() -> None:
    error = Refused("no", left=3)
    error.add_note("said twice")
    found = across(error)
    assert isinstance(found, Refused)
    assert (found.args, found.reason, found.left, found.__notes__) == (("no",), "no", 3, ["said twice"])
    missing = across(FileNotFoundError(2, "No such file", "a.txt"))
    assert isinstance(missing, FileNotFoundError)
    assert (missing.errno, missing.filename, str(missing)) == (2, "a.txt", "[Errno 2] No such file: 'a.txt'")


def test_what_is_not_declared_arrives_as_remote_error() -> None:
    for error, name in ((SystemExit(4), "SystemExit"), (CallError("x"), "fissile.errors.CallError")):
        found = across(raised(error))
        assert isinstance(found, RemoteError)
        assert found.type_name == name
    assert type(across(Broken("away", origin="Deep.down"))) is Unavailable


def test_a_declared_error_whose_fields_do_not_fit_is_named_like_others() -> None:
    found = across(raised(Refused("no", left="three")))  # type: ignore[arg-type]
    assert isinstance(found, RemoteError)
    assert found.type_name == f"{__name__}.Refused"
    assert "its fields do not fit Refused: Expected `int`, got `str`" in found.message


def test_causes_travel() -> None:
    error = raised(Refused("no"), raised(KeyError("k"), raised(Refused("first", left=1), raised(ValueError("v")))))
    found = across(error)
    key = found.__cause__
    assert isinstance(key, RemoteError)
    assert key.type_name == "KeyError"
    first = key.__cause__
    assert isinstance(first, Refused)
    assert first.left == 1
    value = first.__cause__
    assert isinstance(value, RemoteError)
    # The trace of the outermost has all of them; each other begins at its own place in it.
    assert key.traceback_text.count("direct cause") == 2
    assert value.traceback_text.startswith("Traceback")
    assert value.traceback_text.endswith("ValueError: v\n")
    assert found.__context__ is None


def test_a_cause_that_is_its_own() -> None:
    error = Refused("no")
    error.__cause__ = error
    other = KeyError("k")
    other.__cause__ = ValueError("v")
    other.__cause__.__cause__ = other
    for one in (error, other):
        depth, found = 0, across(one)
        while found.__cause__ is not None:
            depth, found = depth + 1, found.__cause__  # type: ignore[assignment]
        assert depth <= 8


def test_the_parts_of_a_declared_group_arrive() -> None:
    found = across(raised(Several("all", [Refused("no", left=1), KeyError("k")])))
    assert isinstance(found, Several)
    first, second = found.exceptions
    assert isinstance(first, Refused)
    assert isinstance(second, RemoteError)
    assert (found.message, first.left, second.type_name) == ("all", 1, "KeyError")
    many = across(Several("all", [KeyError(n) for n in range(10_000)]))
    assert isinstance(many, Several)
    assert f"({10_000 - len(many.exceptions)} more parts left out)" in many.__notes__


def text(error: BaseException) -> str:
    found = across(raised(error))
    assert isinstance(found, RemoteError)
    return found.traceback_text


def test_the_trace_has_what_pythons_has() -> None:
    try:
        try:
            raise KeyError("first")
        except KeyError:
            raise ValueError("second")
    except ValueError as caught:
        caught.add_note("a note")
        found = across(caught)
    assert isinstance(found, RemoteError)
    lines = found.traceback_text.splitlines()
    assert "During handling of the above exception, another exception occurred:" in lines
    assert '    raise KeyError("first")' in lines
    assert [line for line in lines if not line.startswith(" ")][-2:] == ["ValueError: second", "a note"]
    assert "test_the_trace_has_what_pythons_has" in found.traceback_text


def test_the_trace_of_a_group_has_its_parts() -> None:
    lines = text(BaseExceptionGroup("two", [raised(KeyError("k")), ValueError("v")])).splitlines()
    assert "  | ExceptionGroup: two (2 sub-exceptions)" in lines
    assert "    | KeyError: 'k'" in lines
    assert "    | ValueError: v" in lines


def test_a_trace_is_bounded() -> None:
    def down(n: int) -> None:
        if n:
            down(n - 1)
        raise KeyError("deep")

    with pytest.raises(KeyError) as caught:
        down(600)
    found = across(caught.value)
    assert isinstance(found, RemoteError)
    assert "502 frames left out" in found.traceback_text
    assert found.traceback_text.count("[Previous line repeated") == 2
    assert found.traceback_text.count(", in ") < 12
    assert len(to_failure(raised(KeyError("x" * 10**7)), PAY).message) < 5000


def test_a_remote_error_keeps_its_first_trace() -> None:
    first = across(raised(KeyError("k")))
    assert isinstance(first, RemoteError)
    second = across(raised(first))
    assert isinstance(second, RemoteError)
    assert second.traceback_text == first.traceback_text != ""
    assert second.type_name == "KeyError"


@pytest.mark.parametrize(
    "failure",
    [
        Failure("declared", "m", type_name="Refused", fields={"left": "many"}),
        Failure("declared", "m", type_name="Several"),
        Failure("declared", "m", type_name="Nobody"),
        Failure("nonsense", "m"),
        Failure("remote_error", "m", trace=msgspec.Raw(b"\xc1")),
        Failure("remote_error", "m", trace=msgspec.Raw(msgspec.msgpack.encode(["KeyError", 3]))),
        Failure("overloaded", "m", retry_after_seconds=math.nan),
    ],
)
def test_what_a_peer_wrote_wrongly(failure: Failure) -> None:
    found = from_failure(failure, PAY)
    assert isinstance(found, CallError)
    if isinstance(found, RemoteError):
        assert "Traceback" not in found.traceback_text
    if isinstance(found, Overloaded):
        assert found.retry_after_seconds == 0.0


def test_a_peers_chain_without_an_end() -> None:
    deep = Failure("remote_error", "m")
    group = Failure("declared", "m", type_name="Several")
    for _ in range(400):
        deep = Failure("remote_error", "m", cause=deep)
        group = Failure("declared", "m", type_name="Several", args=["m"], parts=[group])
    for failure in (deep, group):
        found: BaseException | None = from_failure(failure, PAY)
        depth = 0
        while found is not None:
            inner = found.exceptions[0] if isinstance(found, BaseExceptionGroup) else None
            found, depth = found.__cause__ or inner, depth + 1
        assert depth < 12


def test_a_peer_cannot_have_files_read() -> None:
    trace = ["KeyError", "m", [["/etc/passwd", 1, "f"], [__file__, 1, "g"]]]
    found = from_failure(Failure("remote_error", "m", trace=msgspec.Raw(msgspec.msgpack.encode(trace))), PAY)
    assert isinstance(found, RemoteError)
    assert "root:" not in found.traceback_text
    assert "An exception as data" in found.traceback_text


def test_pythons_traceback_of_a_remote_error_ends_with_its_callees() -> None:
    found = across(raised(KeyError("k")))
    found.add_note("a note of its own")
    lines = "".join(traceback.format_exception(found)).splitlines()
    assert lines.index("a note of its own") < lines.index("The traceback of its callee:") < lines.index("KeyError: 'k'")
    assert across(found).__notes__ == found.__notes__


def test_a_remote_error_is_copied_with_its_notes() -> None:
    found = across(raised(KeyError("k")))
    found.add_note("a note")
    copied = copy.copy(found)
    assert looks(copied) == looks(found)
    assert copied.__notes__ == found.__notes__
    copied.__notes__ = []
    assert len(copied.__notes__) == 1


def test_pythons_traceback_says_nothing_twice() -> None:
    error = raised(KeyError("k"), raised(ValueError("v")))
    text = "".join(traceback.format_exception(across(error)))
    assert (text.count("The traceback of its callee:"), text.count("ValueError: v")) == (2, 1)
    in_one_process = translate(error, PAY).with_traceback(error.__traceback__)
    lines = traceback.format_exception(in_one_process, chain=False)
    assert "The traceback of its callee:" not in "".join(lines)


def test_a_text_of_its_own() -> None:
    error = RemoteError("m", traceback_text="as it was")
    assert error.traceback_text == "as it was"
    error.traceback_text = "another"
    found = across(error)
    assert isinstance(found, RemoteError)
    assert found.traceback_text == "another"


def test_declared_errors_of_a_method_alone() -> None:
    class Own(Exception): ...

    @component
    class Other:
        @method(raises=(Own,))
        async def go(self) -> None: ...

    go = Application(Other).components["Other"].interface.methods["go"]
    assert type(translate(Own(), go)) is Own
    assert type(translate(Own(), PAY)) is RemoteError

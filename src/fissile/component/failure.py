"""Which exceptions arrive as themselves, and how they look as data.

A declared exception crosses as its class's name, its `args` and its fields; it is rebuilt without calling
its constructor, so any signature works. Everything else becomes a `RemoteError`. A caller in the same process
gets what a caller in another would: both read it from the same data. What an exception holds is untrusted, and
so is what a peer wrote: neither ever keeps a call from being answered. There is no pickle anywhere.
"""

import re
from typing import Any

import msgspec

from fissile.component.declared_errors import error_fields, native_fields
from fissile.component.interface import Method
from fissile.component.plain import cut, plain, text_of
from fissile.component.pydantic_models import decode_hook
from fissile.component.trace import (
    MESSAGE_CHARACTERS_MAX,
    NOTHING,
    Reader,
    members_of,
    notes_of,
    text_trace,
    trace_of,
    type_name,
)
from fissile.errors import CALL_ERRORS, CallError, InvalidArgument, Overloaded, RemoteError

CAUSES_MAX = 8
PARTS_MAX = 64
ARGS_MAX = 64
FAILURE_BYTES_MAX = 4 * 1024 * 1024
RETRY_AFTER_SECONDS_MAX = 86_400.0

# Arguments travel as a row, of which the codec knows no names.
_NUMBERED = re.compile(r"at `\$\[(\d+)\]")

_encode = msgspec.msgpack.Encoder().encode


class Failure(msgspec.Struct, frozen=True, omit_defaults=True):
    """An exception as data.

    code: one of `CALL_ERRORS`, or "declared" for an exception that the method declares. trace: encoded apart, so
    that only who reads it decodes it. cause: of `raise ... from cause`. parts: of a declared group. notes: as
    `add_note` has them, unless the trace has them.
    """

    code: str
    message: str
    origin: str = ""
    remedy: str = ""
    type_name: str = ""
    trace: msgspec.Raw = NOTHING
    retry_after_seconds: float = 0.0
    args: list[Any] = []
    fields: dict[str, Any] = {}
    cause: "Failure | None" = None
    parts: "list[Failure]" = []
    notes: list[str] = []


DECLARED = "declared"


def translate(error: BaseException, method: Method) -> Exception:
    """The exception that a caller of the method gets: a new one, as it would come from another process."""
    return from_failure(to_failure(error, method), method)


def to_failure(error: BaseException, method: Method) -> Failure:
    """The exception as data, as its caller will read it. Never raises, and what it returns can be encoded."""
    try:
        failure = _failure(error, method, [CAUSES_MAX + PARTS_MAX], CAUSES_MAX, traced=False)
        size = len(_encode(failure))
        return failure if size <= FAILURE_BYTES_MAX else _shortened(failure, size)
    except Exception as trouble:  # an author's class: its attributes, or its own idea of what a class is
        return Failure(
            RemoteError.code,
            f"an exception that cannot be described: {type_name(type(trouble))}",
            method.label,
            type_name=cut(type(error).__name__, MESSAGE_CHARACTERS_MAX),
        )


def from_failure(failure: Failure, method: Method) -> Exception:
    """The exception that a failure stands for. Never raises: what a peer wrote wrongly is a RemoteError."""
    return _exception(failure, method, NOTHING, 0, CAUSES_MAX)


def invalid_argument(error: Exception, method: Method) -> InvalidArgument:
    """The error for arguments that do not fit the method's types."""
    signature = ", ".join(parameter.name for parameter in method.parameters)
    return InvalidArgument(
        f"{method.label}({signature}): {with_names(text_of(error, MESSAGE_CHARACTERS_MAX), method)}",
        origin=method.label,
        remedy="pass arguments of the declared types",
    )


def with_names(text: str, method: Method) -> str:
    """What the codec says of a row of arguments, with their names instead of their numbers."""
    names = dict(enumerate(parameter.name for parameter in method.parameters))
    return _NUMBERED.sub(lambda found: f"at `{names.get(int(found[1]), found[1])}", text)


def _failure(error: BaseException, method: Method, budget: list[int], causes: int, *, traced: bool) -> Failure:
    """budget: how many more exceptions may be written. traced: an outer trace has that of this one."""
    budget[0] -= 1
    kind: Any = type(error)
    declared = kind in method.raises and isinstance(error, Exception)
    known = None if declared and kind not in CALL_ERRORS.values() else _known(error)
    trace = NOTHING
    if known is RemoteError:
        trace = _held(error)
    elif known is None and not declared and not traced:
        trace, traced = trace_of(error), True
    cause = None
    reason = error.__cause__
    if reason is not None and reason is not error and causes > 0 and budget[0] > 0:
        cause = _failure(reason, method, budget, causes - 1, traced=traced)
    if known is not None:
        return _call_failure(error, known, method, trace, cause)
    message = text_of(error, MESSAGE_CHARACTERS_MAX)
    if not declared:
        return Failure(RemoteError.code, message, method.label, "", type_name(kind), trace, cause=cause)
    native = native_fields(kind)
    held = ((name, getattr(error, name)) for name in error_fields(kind) if hasattr(error, name))
    parts: list[Failure] = []
    args = error.args[:1] if issubclass(kind, BaseExceptionGroup) else error.args
    notes = notes_of(error)
    members = members_of(error)
    for part in members:
        if budget[0] <= 0 and parts:
            notes.append(f"({len(members) - len(parts)} more parts left out)")
            break
        parts.append(_failure(part, method, budget, 0, traced=False))
    return Failure(
        DECLARED,
        message,
        method.label,
        type_name=kind.__qualname__,
        args=[plain(value) for value in args[:ARGS_MAX]],
        fields={name: plain(value) for name, value in held if value is not None or name not in native},
        cause=cause,
        parts=parts,
        notes=notes,
    )


def _shortened(failure: Failure, size: int) -> Failure:
    """The failure without what takes its bytes."""
    return Failure(
        RemoteError.code if failure.code == DECLARED else failure.code,
        failure.message,
        failure.origin,
        failure.remedy,
        failure.type_name,
        retry_after_seconds=failure.retry_after_seconds,
        notes=[f"what it holds takes {size} bytes and was left out: an error may take {FAILURE_BYTES_MAX}"],
    )


def _known(error: BaseException) -> type[CallError] | None:
    """As which of the call errors it arrives: an author's subclass of one arrives as that one."""
    if not isinstance(error, CallError):
        return None
    known = CALL_ERRORS.values()
    return next((base for base in type(error).__mro__ if base in known), None)


def _call_failure(
    error: BaseException, known: type[CallError], method: Method, trace: msgspec.Raw, cause: Failure | None
) -> Failure:
    held = vars(error)
    return Failure(
        known.code,
        text_of(held.get("message", error), MESSAGE_CHARACTERS_MAX),
        text_of(held.get("origin", ""), MESSAGE_CHARACTERS_MAX) or method.label,
        text_of(held.get("remedy", ""), MESSAGE_CHARACTERS_MAX),
        text_of(held.get("type_name", ""), MESSAGE_CHARACTERS_MAX) if known is RemoteError else "",
        trace,
        seconds(held.get("retry_after_seconds", 0.0)) if known is Overloaded else 0.0,
        cause=cause,
        notes=notes_of(error),
    )


def _held(error: BaseException) -> msgspec.Raw:
    """The trace of a remote error, as it came."""
    assert isinstance(error, RemoteError)
    source = error.traceback_source
    if isinstance(source, Reader) and source.causes == 0:
        return source.raw
    return text_trace(error.traceback_text)


def seconds(value: Any) -> float:
    """The advice when to come back, in seconds: 0.0 where there is none that makes sense."""
    if type(value) not in (int, float) or not value >= 0:  # NaN is not either
        return 0.0
    return float(min(value, RETRY_AFTER_SECONDS_MAX))


def _exception(failure: Failure, method: Method, outer: msgspec.Raw, causes: int, depth: int) -> Exception:
    """outer: the trace that this is a cause in, so many steps down, unless it has its own. depth: how much deeper."""
    if failure.trace != NOTHING:
        outer, causes = failure.trace, 0
    reader = Reader(outer, causes) if outer != NOTHING else ""
    error = _declared(failure, method, depth) if failure.code == DECLARED else None
    if error is None:
        kind = CALL_ERRORS.get(failure.code, RemoteError)
        if kind is RemoteError:
            error = RemoteError(
                failure.message,
                origin=failure.origin,
                remedy=failure.remedy,
                type_name=failure.type_name,
                traceback_text=reader,
            )
        elif kind is Overloaded:
            error = Overloaded(
                failure.message,
                origin=failure.origin,
                remedy=failure.remedy,
                retry_after_seconds=seconds(failure.retry_after_seconds),
            )
        else:
            error = kind(failure.message, origin=failure.origin, remedy=failure.remedy)
    cause = failure.cause
    # To set it, even to None, hides what the caller's own machinery was doing when it raised this.
    error.__cause__ = None if cause is None or depth == 0 else _exception(cause, method, outer, causes + 1, depth - 1)
    if failure.notes:
        vars(error)["__notes__"] = list(failure.notes)
    return error


def _declared(failure: Failure, method: Method, depth: int) -> Exception | None:
    """The declared exception, or None where there is no such, or its data do not fit it."""
    kind = next((kind for kind in method.raises if kind.__qualname__ == failure.type_name), None)
    if kind is None:
        return None
    try:
        error = _empty(kind, failure, method, depth)
        for name, annotation in error_fields(kind).items():
            if name in failure.fields:
                value = msgspec.convert(failure.fields[name], annotation, strict=False, dec_hook=decode_hook)
                object.__setattr__(error, name, value)
    except Exception as trouble:  # an author's class, or a peer's data
        message = text_of(trouble, MESSAGE_CHARACTERS_MAX)
        return RemoteError(
            f"{failure.message} (its fields do not fit {failure.type_name}: {message})",
            origin=failure.origin,
            type_name=type_name(kind),
        )
    return error


def _empty(kind: type[Exception], failure: Failure, method: Method, depth: int) -> Exception:
    """An instance whose constructor was not called."""
    args = tuple(failure.args)
    if issubclass(kind, ExceptionGroup):
        parts = [_exception(part, method, NOTHING, 0, depth - 1) for part in failure.parts if depth > 0]
        message = str(args[0]) if args else failure.message
        make: Any = BaseExceptionGroup.__new__  # pyright: ignore[reportUnknownVariableType]
        return make(kind, message, parts)
    error = kind.__new__(kind)
    error.args = args
    return error

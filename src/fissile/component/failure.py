"""Which exceptions arrive as themselves, and how they look as data.

A declared exception crosses as its class's name, its `args` and its annotated fields; it is rebuilt
without calling its constructor, so any signature works. Everything else becomes a `RemoteError` in
every topology alike. There is no pickle anywhere.
"""

import traceback
from typing import Any

import msgspec

from fissile.component.interface import Method, error_fields
from fissile.errors import CALL_ERRORS, CallError, InvalidArgument, RemoteError

TRACEBACK_CHARACTERS_MAX = 16_000
MESSAGE_CHARACTERS_MAX = 4_000


class Failure(msgspec.Struct, frozen=True, omit_defaults=True):
    """An exception as data.

    code: one of `CALL_ERRORS`, or "declared" for an exception that the method declares.
    """

    code: str
    message: str
    origin: str = ""
    remedy: str = ""
    type_name: str = ""
    traceback_text: str = ""
    retry_after_seconds: float = 0.0
    args: list[Any] = []
    fields: dict[str, Any] = {}


DECLARED = "declared"


def translate(error: Exception, method: Method) -> Exception:
    """The exception that a caller of the method gets: the error itself, or a RemoteError for it."""
    if isinstance(error, CallError) or type(error) in method.raises:
        return error
    text = "".join(traceback.format_exception(error))[-TRACEBACK_CHARACTERS_MAX:]
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return RemoteError(str(error)[:MESSAGE_CHARACTERS_MAX], origin=method.label, type_name=name, traceback_text=text)


def to_failure(error: Exception, method: Method) -> Failure:
    """The exception as data, as a caller in another process will read it."""
    found = translate(error, method)
    if isinstance(found, CallError):
        return Failure(
            code=found.code,
            message=found.message,
            origin=found.origin or method.label,
            remedy=found.remedy,
            type_name=getattr(found, "type_name", ""),
            traceback_text=getattr(found, "traceback_text", ""),
            retry_after_seconds=getattr(found, "retry_after_seconds", 0.0),
        )
    names = error_fields(type(found))
    return Failure(
        code=DECLARED,
        message=str(found)[:MESSAGE_CHARACTERS_MAX],
        origin=method.label,
        type_name=type(found).__qualname__,
        args=[_plain(value) for value in found.args],
        fields={name: _plain(getattr(found, name)) for name in names if hasattr(found, name)},
    )


def from_failure(failure: Failure, method: Method) -> Exception:
    """The exception that a failure stands for."""
    if failure.code == DECLARED:
        for kind in method.raises:
            if kind.__qualname__ == failure.type_name:
                return _rebuild(kind, failure)
        return RemoteError(failure.message, origin=failure.origin, type_name=failure.type_name)
    error = CALL_ERRORS.get(failure.code, RemoteError)(failure.message, origin=failure.origin, remedy=failure.remedy)
    for name in ("type_name", "traceback_text", "retry_after_seconds"):
        if hasattr(error, name):
            setattr(error, name, getattr(failure, name))
    return error


def invalid_argument(error: Exception, method: Method) -> InvalidArgument:
    """The error for arguments that do not fit the method's types."""
    signature = ", ".join(parameter.name for parameter in method.parameters)
    return InvalidArgument(
        f"{method.label}({signature}): {error}",
        origin=method.label,
        remedy="pass arguments of the declared types",
    )


def _plain(value: Any) -> Any:
    try:
        return msgspec.to_builtins(value)
    except TypeError:
        return str(value)


def _rebuild(kind: type[Exception], failure: Failure) -> Exception:
    error = kind.__new__(kind)
    error.args = tuple(failure.args)
    for name, annotation in error_fields(kind).items():
        if name in failure.fields:
            value = msgspec.convert(failure.fields[name], annotation, strict=False)
            object.__setattr__(error, name, value)
    return error

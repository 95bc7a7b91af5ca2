"""Exceptions that a method declares: which of their fields travel, by which types, and what forbids it.

Errors travel by the name of their class, and their fields by annotations: those of the class, or of the
constructor's parameters that it keeps as they are.
"""

import inspect
import typing
from functools import lru_cache
from typing import Any

from fissile.component.constructor import attributes_set
from fissile.component.defaults import misfit
from fissile.component.values import describe, unsupported
from fissile.errors import CALL_ERRORS

_EMPTY = inspect.Parameter.empty

_NATIVE_FIELDS: dict[type[Exception], tuple[str, ...]] = {
    OSError: ("errno", "strerror", "filename", "filename2"),
    ImportError: ("msg", "name", "path"),
    StopIteration: ("value",),
    NameError: ("name",),
    AttributeError: ("name",),
    SyntaxError: ("msg", "filename", "lineno", "offset", "text", "end_lineno", "end_offset"),
    UnicodeDecodeError: ("encoding", "object", "start", "end", "reason"),
    UnicodeEncodeError: ("encoding", "object", "start", "end", "reason"),
    UnicodeTranslateError: ("object", "start", "end", "reason"),
}


@lru_cache(maxsize=4096)
def error_fields(kind: type[Exception]) -> dict[str, Any]:
    """The fields of a declared exception: those that travel, with their types.

    Named are they by an annotation of its class (but for class variables), or by that of a parameter which its
    constructor keeps as it is: `def __init__(self, what: str): self.what = what`.
    """
    if kind in CALL_ERRORS.values():  # they have a form of their own
        return {}
    hints = typing.get_type_hints(kind)
    inferred: dict[str, Any] = {}
    for base in _authors_bases(kind):
        kept = {name: p for name, p in attributes_set(base).items() if p is not None and p.annotation is not _EMPTY}
        wanted = {name: p for name, p in kept.items() if name not in hints and name != "args"}
        if wanted:
            of_parameters = typing.get_type_hints(vars(base)["__init__"])
            inferred |= {name: of_parameters[parameter.name] for name, parameter in wanted.items()}
    found = {
        name: hint for name, hint in (inferred | hints).items() if not name.startswith("_") and not _of_class(hint)
    }
    return dict.fromkeys(native_fields(kind), Any) | found


def unnamed_fields(kind: type[Exception]) -> list[str]:
    """What its constructor sets, but no annotation names: it would not travel."""
    known = {*error_fields(kind), *typing.get_type_hints(kind), "args"}
    names = [name for base in _authors_bases(kind) for name in attributes_set(base)]
    return [name for name in dict.fromkeys(names) if name not in known and not name.startswith("_")]


def _field_default(kind: type[Exception], field: str) -> Any:
    """What a field is where nobody says otherwise: by its constructor's parameter, or its class; else empty."""
    for base in reversed(_authors_bases(kind)):
        parameter = attributes_set(base).get(field)
        if parameter is not None:
            return parameter.default
    value = getattr(kind, field, _EMPTY)
    return _EMPTY if hasattr(value, "__get__") else value


def _authors_bases(kind: type) -> list[type]:
    """The class and its bases as authors have written them, the most general first."""
    return [base for base in reversed(kind.__mro__) if base.__module__ != "builtins"]


def native_fields(kind: type[Exception]) -> tuple[str, ...]:
    """What Python itself keeps in such an exception beside its `args`. None stands for what is not set."""
    return next((names for base, names in _NATIVE_FIELDS.items() if issubclass(kind, base)), ())


def _of_class(hint: Any) -> bool:
    return hint is typing.ClassVar or typing.get_origin(hint) is typing.ClassVar


def describe_error(kind: type[Exception]) -> list[Any]:
    """A declared exception as plain data, for the contract."""
    return [kind.__qualname__, [[name, describe(hint)] for name, hint in sorted(error_fields(kind).items())]]


def error_mistakes(where: str, raises: tuple[Any, ...]) -> list[str]:
    """Why exceptions could not be declared, each with its remedy. where: "Component.method"."""
    mistakes: list[str] = []
    names: dict[str, Any] = {}
    for kind in raises:
        if not (isinstance(kind, type) and issubclass(kind, Exception)):
            mistakes.append(f"{where}: raises={kind!r} is not an exception class")
            continue
        other = names.setdefault(kind.__qualname__, kind)
        if other is not kind:
            places = f"{other.__module__} and {kind.__module__}"
            mistakes.append(
                f"{where}: raises has two errors named {kind.__qualname__} ({places}), and errors travel by name: "
                "give one of them another name"
            )
        try:
            fields = error_fields(kind)
        except Exception as error:
            mistakes.append(f"{where}: an annotation of {kind.__qualname__} cannot be resolved ({error}): import it")
            continue
        for field, hint in fields.items():
            why = unsupported(hint)
            if why is not None:
                mistakes.append(
                    f"{where}: field {field!r} of {kind.__qualname__} cannot be encoded: {why}: use a msgspec.Struct "
                    "or builtins, or a name with an underscore for what is not to travel"
                )
                continue
            default = _field_default(kind, field)
            reason = "" if default is _EMPTY else misfit(hint, default)
            if reason:
                mistakes.append(f"{where}: field {field!r} of {kind.__qualname__}: {reason}")
        for field in unnamed_fields(kind):
            mistakes.append(
                f"{where}: {kind.__qualname__} sets {field!r} in its constructor, but no annotation says its type, so "
                f"that it would not arrive: write `{field}: ...` in the class, or an underscore before the name of "
                "what is not to travel"
            )
    return mistakes

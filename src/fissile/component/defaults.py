"""Whether defaults fit the types that they are defaults of: `x: str = None` works until somebody encodes it."""

from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import inspect as shape

from fissile.component.offsets import preparer
from fissile.component.plain import text_of
from fissile.component.pydantic_models import decode_hook, encode_hook
from fissile.component.values import EMPTY_FACTORIES, RECORDS, children, class_of, hints_of, record_key

REASON_CHARACTERS_MAX = 300

_encode = msgspec.msgpack.Encoder(enc_hook=encode_hook).encode


def arriving(annotation: Any, default: Any) -> Any:
    """The default as it arrives in another process. Raises what the codec raises for one that does not fit."""
    prepare = preparer(annotation)
    data = _encode(default if prepare is None else prepare(default))
    return msgspec.msgpack.decode(data, type=annotation, dec_hook=decode_hook)


def misfit(annotation: Any, default: Any) -> str:
    """What is wrong with a default, and the remedy; nothing where it arrives as what it is."""
    called = annotation.__name__ if type(annotation) is type else str(annotation)
    remedy = f"annotate `{called} | None`" if default is None else f"give it a default of type `{called}`"
    shown = text_of(_Shown(default), REASON_CHARACTERS_MAX)
    try:
        found = arriving(annotation, default)
        if found == default or _encode(found) == _encode(default):
            return ""
        return f"its default {shown} would arrive as {text_of(_Shown(found), REASON_CHARACTERS_MAX)}: {remedy}"
    except Exception as error:  # the codec's, or those of an author's own __eq__ or __post_init__
        reason = text_of(error, REASON_CHARACTERS_MAX).replace("\n", " ")
        return f"its default {shown} does not fit its type ({reason}): {remedy}"


def record_misfits(annotation: Any) -> Iterator[tuple[str, str, str]]:
    """The same for the fields of all records in a type: class, field, what is wrong."""
    yield from _record_misfits(shape.type_info(annotation), set())


class _Shown:
    """`repr` as `str`."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def __str__(self) -> str:
        return repr(self._value)


def _record_misfits(node: Any, seen: set[Any]) -> Iterator[tuple[str, str, str]]:
    if isinstance(node, RECORDS):
        record: Any = node
        if record_key(record) in seen:
            return
        seen.add(record_key(record))
        hints = hints_of(record) if not _left_out(record) else {}
        for field in record.fields:
            default = getattr(field, "default", msgspec.NODEFAULT)
            if getattr(field, "default_factory", None) in EMPTY_FACTORIES:
                default = field.default_factory()
            if default is msgspec.NODEFAULT or default is msgspec.UNSET or field.name not in hints:
                continue
            reason = misfit(hints[field.name], default)
            if reason:
                yield class_of(record).__name__, field.name, reason
    for child in children(node):
        yield from _record_misfits(child, seen)


def _left_out(record: Any) -> bool:
    """Whether what has its default is not written at all, so that the reader has its own."""
    config = getattr(class_of(record), "__struct_config__", None)
    return config is not None and config.omit_defaults and not config.array_like

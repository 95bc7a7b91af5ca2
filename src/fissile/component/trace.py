"""Where an exception came from, as data: written cheaply where it is raised, made into text where it is read.

Formatting a traceback costs a hundred times what walking it does, and most are never read. So a trace is
the frames as (file, line, function), with causes, contexts, the parts of groups and notes as nested data:
all that the text has but the markers under parts of a line. The lines of source are looked up by whoever
reads. Every count is bounded, and what is left out is counted.
"""

import linecache
from itertools import groupby
from types import TracebackType
from typing import Any, cast

import msgspec

from fissile.component.plain import cut, text_of
from fissile.errors import DIRECT_CAUSE

FRAMES_MAX = 100
EXCEPTIONS_MAX = 32
NOTES_MAX = 16
REPEATED_MAX = 3
MESSAGE_CHARACTERS_MAX = 4_000
TEXT_CHARACTERS_MAX = 64_000

_encode = msgspec.msgpack.Encoder().encode
NOTHING = msgspec.Raw(_encode(None))

_CONTEXT = "\nDuring handling of the above exception, another exception occurred:\n\n"
_RULE = "---------------- {number} ----------------\n"


class Trace(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """One exception. frames: file, line and function, outermost first. skipped: frames left out in their middle.

    context: what was handled when it was raised, unless that is its cause or was suppressed. parts: of a group.
    lost: how many of the exceptions that belong here were too many.
    """

    type_name: str
    message: str
    frames: list[tuple[str, int, str]] = []
    skipped: int = 0
    notes: list[str] = []
    cause: "Trace | None" = None
    context: "Trace | None" = None
    parts: "list[Trace]" = []
    lost: int = 0


_decode = msgspec.msgpack.Decoder(Trace | str | None).decode


def type_name(kind: type) -> str:
    """The qualified name of an exception, as tracebacks have it."""
    module = kind.__module__
    return kind.__qualname__ if module == "builtins" else cut(f"{module}.{kind.__qualname__}", MESSAGE_CHARACTERS_MAX)


def trace_of(error: BaseException) -> msgspec.Raw:
    """The exception's trace, encoded."""
    budget = [EXCEPTIONS_MAX]
    trace = _trace(error, budget, set())
    try:
        return msgspec.Raw(_encode(trace))
    except ValueError:  # a name of a file or function that is no text
        return msgspec.Raw(_encode(_readable(trace)))


def notes_of(error: BaseException) -> list[str]:
    """The notes that were added to an exception, as texts."""
    notes: Any = vars(error).get("__notes__")
    if not isinstance(notes, (list, tuple)):
        return []
    return [text_of(note, MESSAGE_CHARACTERS_MAX) for note in cast(list[Any], notes)[:NOTES_MAX]]


def members_of(error: BaseException) -> tuple[BaseException, ...]:
    """The parts of a group; nothing for any other exception."""
    return cast(BaseExceptionGroup[BaseException], error).exceptions if isinstance(error, BaseExceptionGroup) else ()


def text_trace(text: str) -> msgspec.Raw:
    """A trace of which only the text is known, encoded."""
    return msgspec.Raw(_encode(cut(text, TEXT_CHARACTERS_MAX))) if text else NOTHING


class Reader:
    """Makes the text of an encoded trace when it is called. causes: how many causes down it begins."""

    __slots__ = ("causes", "raw")

    def __init__(self, raw: msgspec.Raw, causes: int = 0) -> None:
        self.raw = raw
        self.causes = causes

    def __call__(self) -> str:
        try:
            trace = _decode(self.raw)
        except Exception as error:  # a peer wrote it
            return f"(its trace cannot be read: {error})\n"
        for _ in range(self.causes):
            trace = trace.cause if isinstance(trace, Trace) else None
        if trace is None or isinstance(trace, str):
            return trace or ""
        return cut("".join(_lines(trace, "")), TEXT_CHARACTERS_MAX)


def _trace(error: BaseException, budget: list[int], seen: set[int]) -> Trace:
    budget[0] -= 1
    frames, skipped = _frames(error.__traceback__)
    name, message = type_name(type(error)), text_of(error, MESSAGE_CHARACTERS_MAX)
    cause, context = error.__cause__, error.__context__
    if error.__suppress_context__ or context is cause:
        context = None
    notes = notes_of(error)
    group = isinstance(error, BaseExceptionGroup)
    syntax = isinstance(error, SyntaxError)
    if cause is None and context is None and not notes and not group and not syntax:
        return Trace(name, message, frames, skipped)
    seen.add(id(error))
    if syntax and error.text:
        notes.insert(0, text_of(error.text, MESSAGE_CHARACTERS_MAX).rstrip())
    nested: list[Trace | None] = []
    lost = 0
    for other in (cause, context):
        fits = other is not None and id(other) not in seen and budget[0] > 0
        nested.append(_trace(other, budget, seen) if fits and other is not None else None)
        lost += other is not None and not fits
    parts: list[Trace] = []
    members = members_of(error)
    for part in members:
        if budget[0] <= 0:
            lost += len(members) - len(parts)
            break
        parts.append(_trace(part, budget, seen))
    return Trace(name, message, frames, skipped, notes, nested[0], nested[1], parts, lost)


def _frames(step: TracebackType | None) -> tuple[list[tuple[str, int, str]], int]:
    found: list[tuple[str, int, str]] = []
    add = found.append
    while step is not None:
        code = step.tb_frame.f_code
        add((code.co_filename, step.tb_lineno, code.co_qualname))
        step = step.tb_next
        if len(found) == FRAMES_MAX and step is not None:
            return _long(found, step)
    return found, 0


def _long(first: list[tuple[str, int, str]], step: TracebackType | None) -> tuple[list[tuple[str, int, str]], int]:
    """The first and the last frames of a traceback that goes on with this step."""
    half = FRAMES_MAX // 2
    steps: list[TracebackType] = []
    while step is not None:
        steps.append(step)
        step = step.tb_next
    last = [(s.tb_frame.f_code.co_filename, s.tb_lineno, s.tb_frame.f_code.co_qualname) for s in steps[-half:]]
    middle = first[half:] + last
    skipped = len(first) - half + len(steps) - half
    return first[:half] + middle[-half:], skipped


def _readable(trace: Trace | None) -> Trace | None:
    if trace is None:
        return None
    return msgspec.structs.replace(
        trace,
        type_name=text_of(trace.type_name, MESSAGE_CHARACTERS_MAX),
        frames=[(text_of(file, 1000), line, text_of(function, 1000)) for file, line, function in trace.frames],
        cause=_readable(trace.cause),
        context=_readable(trace.context),
        parts=[part for part in map(_readable, trace.parts) if part is not None],
    )


def _lines(trace: Trace, margin: str) -> list[str]:
    """The text as Python writes it, each line behind the margin."""
    found: list[str] = []
    if trace.cause is not None:
        found += [*_lines(trace.cause, margin), *_behind(margin, DIRECT_CAUSE)]
    elif trace.context is not None:
        found += [*_lines(trace.context, margin), *_behind(margin, _CONTEXT)]
    own: list[str] = []
    if trace.frames:
        own.append(f"{'Exception Group ' if trace.parts else ''}Traceback (most recent call last):\n")
        half = len(trace.frames) // 2
        if trace.skipped:
            own += [*_places(trace.frames[:half]), f"  ... {trace.skipped} frames left out ...\n"]
            own += _places(trace.frames[half:])
        else:
            own += _places(trace.frames)
    own.append(f"{trace.type_name}: {trace.message}\n" if trace.message else f"{trace.type_name}\n")
    own += [f"{note}\n" for note in trace.notes]
    if trace.lost:
        own.append(f"({trace.lost} more exceptions left out)\n")
    inner = f"{margin}  | " if trace.parts else margin
    found += [piece for one in own for piece in _behind(inner, one)]
    for number, part in enumerate(trace.parts, 1):
        found.append(f"{margin}  {'+-' if number == 1 else '  '}+{_RULE.format(number=number)}")
        found += _lines(part, f"{margin}    | ")
    if trace.parts:
        found.append(f"{margin}    +------------------------------------\n")
    return found


def _places(frames: list[tuple[str, int, str]]) -> list[str]:
    """The lines for frames; more than three of one place after another are counted, as Python does."""
    found: list[str] = []
    for (file, line, function), same in groupby(frames):
        source = _source(file, line)
        shown = f'  File "{file}", line {line}, in {function}\n' + (f"    {source}\n" if source else "")
        count = len(list(same))
        found += [shown] * min(count, REPEATED_MAX)
        if count > REPEATED_MAX:
            more = count - REPEATED_MAX
            found.append(f"  [Previous line repeated {more} more time{'s' if more > 1 else ''}]\n")
    return found


def _behind(margin: str, text: str) -> list[str]:
    return [margin + line for line in text.splitlines(keepends=True)] if margin else [text]


def _source(file: str, line: int) -> str:
    # A peer named the file: nothing but source is looked into.
    return linecache.getline(file, line).strip() if file.endswith(".py") else ""

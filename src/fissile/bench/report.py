"""PURE. What one measured figure is, whether it reaches its goal, and a table of them.

A goal is text that a person reads and a program checks: ">= 25", "<= 0.16", or "" for a figure that
is only reported.
"""

import re
from collections.abc import Iterable, Mapping

import msgspec

_GOAL = re.compile(r"(>=|<=) *([0-9]+(?:\.[0-9]+)?)")


class Figure(msgspec.Struct, frozen=True):
    """One result. holds: whether the goal is reached, None where there is no goal."""

    name: str
    value: float
    unit: str
    goal: str = ""
    holds: bool | None = None


def figure(name: str, value: float, unit: str, goal: str = "") -> Figure:
    """A figure, judged by its goal. Raises ValueError for a goal of another form."""
    if not goal:
        return Figure(name, value, unit)
    match = _GOAL.fullmatch(goal)
    if match is None:
        raise ValueError(f"{name}: the goal {goal!r} is not of the form '>= NUMBER' or '<= NUMBER'")
    limit = float(match[2])
    return Figure(name, value, unit, goal, value >= limit if match[1] == ">=" else value <= limit)


def number(value: float) -> str:
    """A number with three significant digits and no exponent, thousands separated."""
    size = abs(value)
    if size >= 100:
        return f"{value:,.0f}"
    if size >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if size >= 1 else f"{value:.3f}"


def as_table(figures: Iterable[Figure]) -> str:
    """The figures as a Markdown table, which reads well on a terminal too."""
    verdicts = {True: "yes", False: "NO", None: ""}
    rows = [("name", "value", "unit", "goal", "holds")]
    rows += [(f.name, number(f.value), f.unit, f.goal, verdicts[f.holds]) for f in figures]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    lines = [_line(row, widths) for row in rows]
    rule = "|" + "|".join(":" + "-" * (w + 1) if i != 1 else "-" * (w + 1) + ":" for i, w in enumerate(widths)) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def _line(row: tuple[str, ...], widths: list[int]) -> str:
    cells = [f"{cell:>{w}}" if i == 1 else f"{cell:<{w}}" for i, (cell, w) in enumerate(zip(row, widths, strict=True))]
    return "| " + " | ".join(cells) + " |"


def as_json(figures: Iterable[Figure]) -> bytes:
    """The figures as a JSON list of objects with name, value, unit, goal, holds."""
    return msgspec.json.format(msgspec.json.encode(list(figures))) + b"\n"


def rewritten(document: str, parts: Mapping[str, str]) -> str:
    """The document with other texts between its marks, an HTML comment `<!-- NAME -->` and `<!-- /NAME -->` each.

    Raises ValueError for a part that the document has no marks for.
    """
    for name, text in parts.items():
        begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        before, begun, rest = document.partition(begin)
        _, ended, after = rest.partition(end)
        if not (begun and ended):
            raise ValueError(f"the document has no lines {begin.strip()!r} and {end!r}: write them where it belongs")
        document = f"{before}{begin}{text}\n{end}{after}"
    return document

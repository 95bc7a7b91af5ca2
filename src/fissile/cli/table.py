"""PURE. Tables for people: a header, aligned columns, and what does not fit wrapped under its own column."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

GAP = "  "
# A last column narrower than that is not wrapped: the terminal may break the line.
WRAPPED_CHARACTERS_MIN = 20

# Parameters of SGR (ECMA-48, 8.3.117), by what they are to say.
STYLES: Mapping[str, str] = {"good": "32", "busy": "33", "bad": "31", "title": "2", "faint": "2"}


class Column(NamedTuple):
    """A title, and whether the cells below it are numbers, which end where it ends."""

    title: str
    number: bool = False


class Cell(NamedTuple):
    """A text of one line, and how it is shown: a key of STYLES, or ""."""

    text: str
    style: str = ""


Row = Sequence[str | Cell]


def table(columns: Sequence[Column], rows: Iterable[Row], *, width: int | None = None, colour: bool = False) -> str:
    """The table as text. width: of the terminal, in characters; None: the last column is never wrapped.

    Columns of which no row has anything are left out, as are spaces at the ends of lines.
    """
    cells = [[one if isinstance(one, Cell) else Cell(one) for one in row] for row in rows]
    shown = [index for index in range(len(columns)) if any(row[index].text for row in cells)]
    heads = [Cell(columns[index].title, "title") for index in shown]
    lines = [heads, *([row[index] for index in shown] for row in cells)]
    widths = [max(len(line[place].text) for line in lines) for place in range(len(shown))]
    numbers = [columns[index].number for index in shown]
    begin = sum(widths[:-1]) + len(GAP) * len(widths[:-1])
    room = None if width is None or width - begin < WRAPPED_CHARACTERS_MIN else width - begin
    return "\n".join(text for line in lines for text in _lines(line, widths, numbers, begin, room, colour))


def _lines(
    line: list[Cell], widths: list[int], numbers: list[bool], begin: int, room: int | None, colour: bool
) -> Iterable[str]:
    """One row: a line, and more where its last cell is longer than the room for it."""
    if not line:
        return
    *first, last = line
    parts = wrapped(last.text, room) if room is not None else [last.text]
    aligned = zip([*first, Cell(parts[0], last.style)], widths, numbers, strict=True)
    yield GAP.join(_padded(cell, size, number, colour) for cell, size, number in aligned).rstrip()
    for part in parts[1:]:
        yield " " * begin + styled(part, last.style, colour=colour)


def _padded(cell: Cell, width: int, number: bool, colour: bool) -> str:
    pad = " " * (width - len(cell.text))
    text = styled(cell.text, cell.style, colour=colour)
    return pad + text if number else text + pad


def styled(text: str, style: str, *, colour: bool = True) -> str:
    """A text in a style of STYLES, where colours are wanted."""
    return f"\x1b[{STYLES[style]}m{text}\x1b[0m" if colour and style and text else text


def wrapped(text: str, width: int) -> list[str]:
    """A text in lines of that many characters, broken between words; a longer word stays whole."""
    lines = [""]
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}" if lines[-1] else word
        if len(longer) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


_UNITS = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"))


def duration(seconds: float) -> str:
    """A span of time in its largest unit, as "3 min"; less than a second is "0 s"."""
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{seconds // size:.0f} {unit}"
    return "0 s"

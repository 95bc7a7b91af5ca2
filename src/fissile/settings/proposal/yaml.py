"""Reads as much of YAML as Compose files are written in: all scalars are text.

Mappings, sequences, quoted and block scalars, flow collections, anchors and merge keys. Anything else is refused by
its line, so that nothing is taken for what it is not. Source: yaml.org/spec/1.2.2.
"""

import re
from typing import Any, cast

DEPTH_MAX = 40
LINES_MAX = 5000
_KEY = re.compile(
    r"""(?P<key>"(?:[^"\\]|\\.)*"|'(?:[^']|'')*'|[^\s\[\]{},#&*!|>%@`"'-][^#]*?|-[^\s#][^#]*?):(?:\s+|$)"""
)
_ANCHOR = re.compile(r"&(?P<name>[\w.-]+)(?:\s+|$)")
_COMMENT = re.compile(r"(?:^|\s)#.*$")
_BLOCK = re.compile(r"(?P<style>[|>])(?P<chomp>[+-]?)$")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "0": "\0"}


class NotRead(Exception):
    """A line that is not understood; its number."""

    def __init__(self, line: int) -> None:
        super().__init__(f"line {line}")
        self.line = line


def read(text: str) -> Any:
    """The document: mappings, lists and texts. Raises NotRead."""
    reader = _Reader(text)
    value = reader.block(-1, 0)
    if reader.lines:
        raise NotRead(reader.lines[0][2])
    return value


class _Reader:
    """Lines that are still to be read: (indentation, text without comment, number), and anchors by name."""

    def __init__(self, text: str) -> None:
        raw = text.removeprefix("\ufeff").splitlines()
        if len(raw) > LINES_MAX:
            raise NotRead(LINES_MAX + 1)
        self._raw = raw
        self.lines: list[tuple[int, str, int]] = []
        self._anchors: dict[str, Any] = {}
        for number, line in enumerate(raw, 1):
            if "\t" in line[: len(line) - len(line.lstrip())]:
                raise NotRead(number)
            bare = _uncommented(line)
            if bare.strip() and not bare.startswith(("---", "%")):
                self.lines.append((len(line) - len(line.lstrip()), bare.strip(), number))

    def block(self, above: int, depth: int) -> Any:
        """A value that is indented further than `above`; "" where there is none."""
        if not self.lines or self.lines[0][0] <= above or depth > DEPTH_MAX:
            return ""
        indent, text, number = self.lines[0]
        if text.startswith("? "):
            raise NotRead(number)  # a key that is a block of its own
        if text == "-" or text.startswith("- "):
            return self._sequence(indent, depth)
        if _KEY.match(text):
            return self._mapping(indent, depth)
        self.lines.pop(0)
        return self._scalar(text, above, number, depth)

    def _sequence(self, indent: int, depth: int) -> list[Any]:
        found: list[Any] = []
        while self.lines and self.lines[0][0] == indent and (self.lines[0][1] + " ").startswith("- "):
            _, text, number = self.lines.pop(0)
            rest = text[1:].lstrip()
            if rest and (_KEY.match(rest) or rest.startswith("- ")):
                # A mapping that begins on the dash's own line is indented by where its first key stands.
                self.lines.insert(0, (indent + len(text) - len(rest), rest, number))
                found.append(self.block(indent, depth + 1))
            else:
                found.append(self._scalar(rest, indent, number, depth) if rest else self.block(indent, depth + 1))
        return found

    def _mapping(self, indent: int, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        while self.lines and self.lines[0][0] == indent:
            _, text, number = self.lines.pop(0)
            match = _KEY.match(text)
            if match is None:
                raise NotRead(number)
            value = self._value(text[match.end() :].strip(), indent, number, depth)
            if match["key"] == "<<":
                for one in cast(list[Any], value if isinstance(value, list) else [value]):
                    merged = {**one, **merged} if isinstance(one, dict) else merged
            else:
                found[_plain(match["key"], number)] = value
        if self.lines and self.lines[0][0] > indent:
            raise NotRead(self.lines[0][2])
        return {**merged, **found}

    def _value(self, rest: str, indent: int, number: int, depth: int) -> Any:
        anchor = _ANCHOR.match(rest)
        if anchor is not None:
            rest = rest[anchor.end() :]
        if rest:
            value = self._scalar(rest, indent, number, depth)
        elif self.lines and self.lines[0][0] == indent and (self.lines[0][1] + " ").startswith("- "):
            value = self._sequence(indent, depth + 1)  # YAML lets a sequence stand as deep as its key
        else:
            value = self.block(indent, depth + 1)
        if anchor is not None:
            self._anchors[anchor["name"]] = value
        return value

    def _scalar(self, text: str, above: int, number: int, depth: int) -> Any:
        if text.startswith("*"):
            if text[1:] not in self._anchors:
                raise NotRead(number)
            return self._anchors[text[1:]]
        block = _BLOCK.fullmatch(text)
        if block is not None:
            return self._literal(above, number, folded=block["style"] == ">")
        if text.startswith(("[", "{")):
            while not _closed(text) and self.lines:
                text = f"{text} {self.lines.pop(0)[1]}"
            value, end = _flow(text, 0, number, depth)
            if text[end:].strip():
                raise NotRead(number)
            return value
        # A plain scalar goes on over lines that are indented further and have no key.
        while self.lines and self.lines[0][0] > above and text[0] not in "\"'" and not _KEY.match(self.lines[0][1]):
            if self.lines[0][1].startswith("- "):
                break
            text = f"{text} {self.lines.pop(0)[1]}"
        return _plain(text, number)

    def _literal(self, above: int, number: int, *, folded: bool) -> str:
        """A block scalar, from the lines as they were written: `#` begins no comment in it."""
        taken: list[str] = []
        for line in self._raw[number:]:
            if line.strip() and len(line) - len(line.lstrip()) <= above:
                break
            taken.append(line)
        last = number + len(taken)
        self.lines = [one for one in self.lines if one[2] > last]
        inner = min((len(line) - len(line.lstrip()) for line in taken if line.strip()), default=0)
        return (" " if folded else "\n").join(line[inner:] for line in taken).strip()


def _uncommented(line: str) -> str:
    """A line without its comment. Within quotation marks `#` begins none."""
    found = _COMMENT.search(line)
    while found is not None:
        before = line[: found.start()]
        if before.count('"') % 2 == 0 and before.count("'") % 2 == 0:
            return before
        found = _COMMENT.search(line, found.end()) if found.end() < len(line) else None
    return line


def _closed(text: str) -> bool:
    return text.count("[") == text.count("]") and text.count("{") == text.count("}")


def _plain(text: str, number: int) -> str:
    """The text of a scalar in any style but block."""
    if text[:1] == '"':
        if len(text) < 2 or text[-1] != '"':
            raise NotRead(number)
        return re.sub(r"\\(.)", lambda found: _ESCAPES.get(found[1], found[1]), text[1:-1])
    if text[:1] == "'":
        if len(text) < 2 or text[-1] != "'":
            raise NotRead(number)
        return text[1:-1].replace("''", "'")
    if text[:1] in ("!", "@", "`", "%", "&", "*"):
        raise NotRead(number)
    return "" if text in ("~", "null", "Null", "NULL") else text


_IN_FLOW = re.compile(r"""\s*(?P<text>"(?:[^"\\]|\\.)*"|'(?:[^']|'')*'|[^\[\]{},"']*?)\s*(?=[,\]}]|:\s)""")


def _flow(text: str, at: int, number: int, depth: int) -> tuple[Any, int]:
    """A flow collection that begins at a place; where it ends."""
    if depth > DEPTH_MAX:
        raise NotRead(number)
    closing = "]" if text[at] == "[" else "}"
    items: list[Any] = []
    pairs: dict[str, Any] = {}
    at += 1
    while True:
        while text[at : at + 1] in (" ", ","):
            at += 1
        if text[at : at + 1] == closing:
            return (items if closing == "]" else pairs), at + 1
        value, at = _flow_item(text, at, number, depth)
        if closing == "]":
            if text[at : at + 1] == ":":
                raise NotRead(number)  # a pair without braces
            items.append(value)
            continue
        if text[at : at + 1] == ":":
            at = len(text) - len(text[at + 1 :].lstrip())
            pairs[str(value)], at = _flow_item(text, at, number, depth)
        else:
            pairs[str(value)] = ""


def _flow_item(text: str, at: int, number: int, depth: int) -> tuple[Any, int]:
    if text[at : at + 1] in ("[", "{"):
        return _flow(text, at, number, depth + 1)
    found = _IN_FLOW.match(text, at)
    if found is None:
        raise NotRead(number)
    return _plain(found["text"], number), found.end()

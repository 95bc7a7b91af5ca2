"""Letters: what a zygote passes on and never reads.

All services are forked from the zygote's memory, so what it has once read each of them has, freed or not. Therefore
what one service alone may know travels to its process in a file without a name (memfd_create(2)), whose descriptor
goes through the zygote as it is. A letter is written once, by the supervisor.
"""

import os
import tempfile
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")

PIECE_BYTES = 1024 * 1024


def blank() -> int:
    """A letter that somebody else is to write; its descriptor, which no program inherits."""
    try:
        return os.memfd_create("letter")
    except (AttributeError, OSError):  # another system
        with tempfile.TemporaryFile() as file:
            return os.dup(file.fileno())


def seal(content: Any) -> int:
    """A letter with a struct in it; its descriptor, which no program inherits."""
    letter = blank()
    try:
        write(letter, content)
    except BaseException:
        os.close(letter)
        raise
    return letter


def write(letter: int, content: Any) -> None:
    """Write a letter. Raises OSError where the machine has no room for it."""
    data = memoryview(msgspec.msgpack.encode(content))
    place = 0
    while place < len(data):
        place += os.pwrite(letter, data[place:], place)


def read(letter: int, kind: type[T]) -> T:
    """What a letter holds, however often it was read before. Raises msgspec.DecodeError."""
    data = bytearray()
    while piece := os.pread(letter, PIECE_BYTES, len(data)):
        data += piece
    return msgspec.msgpack.decode(data, type=kind)

"""All formats in which Fissile keeps or sends something that another Fissile may come to read, with their numbers.

Raise a number whenever what is written alters: a field more or less, another type, another meaning.
tests/architecture/test_formats.py holds a fingerprint of each format's definitions and fails until that is done. Raise
`oldest` with it, unless this Fissile reads the former number, too, and means the same by it.
docs/reference/formats.md says where each number stands, and what happens where it is another one.
"""

from contextlib import suppress

import msgspec

from fissile.version import VERSION

# Which Fissile wrote something, for people: numbers decide.
FISSILE = VERSION


class Format(msgspec.Struct, frozen=True):
    """One format. number: of what is written now; from `oldest` on it is read."""

    name: str
    number: int
    oldest: int

    def reads(self, number: int) -> bool:
        """Whether what has this number is understood here."""
        return self.oldest <= number <= self.number

    def strange(self, number: int, by: str) -> str:
        """Who has written what is not understood here, in words. by: the version of that Fissile; "": not known."""
        age = "a newer" if number > self.number else "an older"
        known = f"{self.oldest}" if self.oldest == self.number else f"{self.oldest} to {self.number}"
        whose = f"{age} Fissile ({by})" if by and by != FISSILE else f"{age} Fissile"
        return f"{whose}, in format {number} of {self.name}; this one, {FISSILE}, reads {known}"


class Head(msgspec.Struct, frozen=True):
    """What every version says of a file beside copies of code. fissile: which wrote it; "": not known."""

    format: int = 1
    fissile: str = ""


def head_of(data: bytes) -> Head:
    """Of a file's content; of what is no JSON object, as an early one or a damaged one, the first format."""
    with suppress(msgspec.DecodeError):
        return msgspec.json.decode(data, type=Head)
    return Head()


# What the processes of an application say to each other: supervisor, zygote, replica. They are all of one number.
PROCESSES = Format("messages", 6, 6)
# .fissile/endpoints.json. One without a number is of format 1.
ENDPOINTS = Format("endpoints", 1, 1)
# .fissile/releases/*.json. One without a number is of format 1.
RELEASE = Format("releases", 2, 1)
# .fissile/code/*/files.json, beside the copy of a release's code. One without a number is of format 1.
COPY = Format("copies", 2, 1)
# .fissile/code/written.json. One without a number is of format 1.
WRITTEN = Format("written", 3, 1)
# The tables of .fissile/journal.db (`pragma user_version`). Earlier ones are brought to this one.
JOURNAL = Format("the journal", 3, 1)
# Values that the journal keeps, by name. Before journal format 3 they carried no number, and are of format 1.
DESIRED = Format("desired", 4, 4)
SECRETS = Format("secrets", 1, 1)
DOWN = Format("down", 1, 1)
MIGRATED = Format("migrated", 1, 1)
PORT = Format("port", 1, 1)
DIFFERENCES = Format("differences", 1, 1)
CALLERS = Format("callers", 1, 1)
TALLY = Format("tally", 1, 1)
KEPT = {one.name: one for one in (DESIRED, SECRETS, DOWN, MIGRATED, PORT, DIFFERENCES, CALLERS, TALLY)}
# Those that are found anew where they cannot be read.
FOUND_ANEW = frozenset({DIFFERENCES.name, CALLERS.name})
# Those that a start with the code in the folder does without.
OF_LAST_RUN = frozenset({DESIRED.name, SECRETS.name, DOWN.name, PORT.name})

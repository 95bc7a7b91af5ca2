"""What every reason is: a frozen value with its fields, one sentence for people, and a kind for programs."""

import signal
from typing import ClassVar

import msgspec

UNITS = ((2**40, "T"), (2**30, "G"), (2**20, "M"), (2**10, "K"))


class ReasonBase(msgspec.Struct, frozen=True, tag=True, tag_field="kind"):
    """What every Reason is."""

    def __str__(self) -> str:
        """For people."""
        raise NotImplementedError

    @property
    def kind(self) -> str:
        """For programs: what sort of reason it is."""
        return type(self).__name__

    @property
    def cause(self) -> "ReasonBase":
        """Where it began: the end of a replica that is started again, the fault of one that was killed."""
        return self

    @property
    def brief(self) -> str:
        """Its first line, where the rest, and what to do about it, is said elsewhere."""
        return str(self).partition("\n")[0].rstrip(":")

    @property
    def trouble(self) -> str:
        """Why something cannot start, where it is said already that it cannot."""
        return str(self)

    @property
    def advises(self) -> bool:
        """Whether its words say what to do next."""
        return False


class Plain(ReasonBase, frozen=True):
    """One that always has the same words."""

    words: ClassVar[str]

    def __str__(self) -> str:
        return self.words


class Said(ReasonBase, frozen=True):
    """In the words of whoever wanted it, or knows of it; nobody decides anything by them."""

    text: str

    def __str__(self) -> str:
        return self.text


def described(status: int | None) -> str:
    """An exit status in words."""
    if status is None:
        return "ended, nobody saw how"
    if status >= 0:
        return f"ended with exit code {status}"
    try:
        return f"was killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"was killed by signal {-status}"


def size_text(count: int) -> str:
    """Bytes for people, in binary units."""
    return next((f"{count / unit:.4g}{letter}" for unit, letter in UNITS if count >= unit), str(count))

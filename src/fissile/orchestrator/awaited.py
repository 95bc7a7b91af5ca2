"""What a start waits for, in words."""

from collections.abc import Sequence

import msgspec

# The others are counted.
NAMED_MAX = 3


class Awaited(msgspec.Struct, frozen=True):
    """A service whose replicas are waited for: how many are ready of how many that are wanted.

    held: its data is brought up to date first. program: how it is seen that its program serves, "" where it says so
    itself. trouble: how its last replica ended before it was ready, or "". after: services that have to serve before it
    is started.
    """

    service: str
    ready: int
    wanted: int
    held: bool = False
    program: str = ""
    trouble: str = ""
    after: tuple[str, ...] = ()


def awaited(services: Sequence[Awaited]) -> str:
    """What is waited for; "" where all are there."""
    missing = [one for one in services if one.held or one.ready < one.wanted]
    missing.sort(key=lambda one: bool(one.after))  # what all wait for comes first
    told = [_told(one) for one in missing[:NAMED_MAX]]
    more = len(missing) - NAMED_MAX
    return "; ".join([*told, *([f"and {more} more"] if more > 0 else [])])


def _told(one: Awaited) -> str:
    if one.held:
        return f"migrating {one.service}"
    if one.after:
        return f"{one.service} waits for {', '.join(one.after)}"
    count = f" {one.ready}/{one.wanted}" if one.wanted > 1 else ""
    said = f"waiting until {one.service}{count} {one.program}" if one.program else f"starting {one.service}{count}"
    return f"{said}; the last attempt failed: {_brief(one.trouble)}" if one.trouble else said


def _brief(trouble: str) -> str:
    """Its first line: the rest, and what to do about it, is said with the error."""
    return trouble.removeprefix("cannot start: ").partition("\n")[0].rstrip(":")

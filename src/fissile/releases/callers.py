"""PURE. Which methods programs outside call over HTTP/JSON, and what may be concluded from none having done so.

One record a method: no address, and nothing of a caller. Times are seconds since 1970.
"""

from collections.abc import Iterable, Mapping

import msgspec

MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0
# Absence that was watched for less proves nothing: a program may call once a day.
WATCHED_SECONDS_MIN = DAY
# Who has not called for so long is taken to be gone.
REMEMBERED_SECONDS = 30 * DAY


class Called(msgspec.Struct, frozen=True):
    """Of one method. since: from when on its calls are watched for; None: it is in no release that runs.

    last: when it was last called; 0.0: never as far as is known.
    """

    since: float | None
    last: float = 0.0


Calls = Mapping[str, Called]


def watched(calls: Calls, methods: Iterable[str], now: float) -> dict[str, Called]:
    """The records once these methods are those that can be called."""
    methods = set(methods)
    found: dict[str, Called] = {}
    for method in methods:
        before = calls.get(method, Called(None))
        found[method] = before if before.since is not None else Called(now, before.last)
    for method, before in calls.items():
        if method not in methods and before.last and now - before.last <= REMEMBERED_SECONDS:
            found[method] = Called(None, before.last)
    return found


def heard(calls: Calls, methods: Iterable[str], now: float) -> dict[str, Called]:
    """The records after calls of these methods."""
    return {**calls, **{method: Called(calls.get(method, Called(now)).since, now) for method in methods}}


def interrupted(calls: Calls) -> dict[str, Called]:
    """The records after a time in which nobody watched."""
    return {method: Called(None, one.last) for method, one in calls.items()}


def shifted(calls: Calls, seconds: float) -> dict[str, Called]:
    """The records by a clock that was set, by so many seconds: what was watched is no longer for that, nor shorter."""
    return {
        method: Called(
            None if one.since is None else one.since + seconds, one.last + seconds if one.last > 0.0 else one.last
        )
        for method, one in calls.items()
    }


def by_now(calls: Calls, now: float) -> dict[str, Called]:
    """Records that were written by another clock: nothing in them is later than now."""
    return {
        method: Called(None if one.since is None else min(one.since, now), min(one.last, now))
        for method, one in calls.items()
    }


def recent(one: Called | None, now: float) -> bool:
    """Whether a method was called so lately that its callers are taken to be there."""
    return one is not None and one.last > 0.0 and now - one.last <= REMEMBERED_SECONDS


def outside(one: Called | None, now: float) -> tuple[bool, str]:
    """Whether somebody outside may call a method, and why, in words."""
    if one is not None and recent(one, now):
        return True, f"it was called over HTTP/JSON {span(now - one.last)} ago"
    if one is None or one.since is None:
        return True, "its calls over HTTP/JSON were not watched"
    seconds = now - one.since
    if seconds < WATCHED_SECONDS_MIN:
        needed = span(WATCHED_SECONDS_MIN)
        return True, f"its calls over HTTP/JSON have been watched for {span(seconds)}; {needed} are needed"
    return False, f"not called over HTTP/JSON in {span(min(seconds, REMEMBERED_SECONDS))}"


def span(seconds: float) -> str:
    """A time for people, in its largest unit: "3 hours". A day is said in hours, as it is a limit of hours."""
    for unit, size, least in (("day", DAY, 2 * DAY), ("hour", HOUR, HOUR), ("minute", MINUTE, MINUTE)):
        if seconds >= least:
            count = int(seconds // size)
            return f"{count} {unit}{'s' if count != 1 else ''}"
    return "less than a minute"

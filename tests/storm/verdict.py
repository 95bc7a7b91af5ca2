"""PURE. What the storm promises, and whether it was kept."""

from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import median

import msgspec

# Resident memory 10 s after the end, as a share of that after the first tenth.
MEMORY_SHARE_MAX = 1.05


class Seen(msgspec.Struct):
    """What was seen of one process. rss: resident memory (bytes) at which share of the calls; rss_end: when all was
    over for a while, 0 where it was not looked at."""

    name: str
    gauges: dict[str, int] = {}
    broken: list[str] = []
    wrong: int = 0
    outcomes: dict[str, int] = {}
    offences: int = 0
    log: list[str] = []
    rss: list[tuple[float, int]] = []
    rss_end: int = 0
    exit_code: int | None = None

    def rss_in(self, tenth: int) -> float:
        """The median of its memory in one tenth of the calls, from 0; 0.0 if nothing was seen then. What is in flight
        comes and goes by megabytes, so that a single look says little."""
        found = [rss for share, rss in self.rss if tenth / 10 <= share < (tenth + 1) / 10]
        return float(median(found)) if found else 0.0

    @property
    def rss_tenth(self) -> float:
        """Its memory after the first tenth of the calls."""
        return self.rss_in(1)


class Promise(msgspec.Struct, frozen=True):
    """One promise. found: what broke it, a line each."""

    name: str
    found: tuple[str, ...]

    @property
    def kept(self) -> bool:
        """Whether nothing broke it."""
        return not self.found


def judge(
    callee: Seen, callers: Sequence[Seen], hostile: Seen, trouble: Sequence[str], *, memory: bool
) -> list[Promise]:
    """Every promise, kept or not. trouble: what the driver itself saw. memory: whether memory is judged."""
    everybody = (callee, *callers, hostile)
    return [
        Promise("every process lives to the end", tuple(trouble)),
        Promise(
            "every honest call has its right answer, or the error that its plan allows, in time",
            tuple(f"{one.name}: {what}" for one in callers for what in _told(one)),
        ),
        Promise("a hostile connection that breaks the protocol is closed, and no other", tuple(_told(hostile))),
        Promise(
            "no gauge is off at the end",
            tuple(f"{one.name}: {name}: {count:+d}" for one in everybody for name, count in one.gauges.items()),
        ),
        Promise(
            "a line in the callee's log for each offence at most, and no traceback",
            tuple(_lines(callee, sum(one.offences for one in everybody))),
        ),
        Promise(
            "nothing in the callers' logs",
            tuple(f"{one.name}: {line}" for one in (*callers, hostile) for line in one.log),
        ),
        Promise(
            f"memory at the end ≤ {MEMORY_SHARE_MAX:.0%} of that after the first tenth",
            tuple(
                f"{one.name}: {one.rss_tenth / 2**20:.1f} → {one.rss_end / 2**20:.1f} MiB"
                for one in (callee, *callers)
                if memory and one.rss_end > MEMORY_SHARE_MAX * one.rss_tenth
            ),
        ),
    ]


def _told(one: Seen) -> list[str]:
    more = one.wrong - len(one.broken)
    return [*one.broken, *([f"and {more} more"] if more > 0 else [])]


def _lines(callee: Seen, offences: int) -> list[str]:
    found = [f"not one line of one offence: {line}" for line in callee.log if not line.startswith("WARNING fissile.")]
    if len(callee.log) > offences:
        found.append(f"{len(callee.log)} lines for {offences} offences")
    return found


def table(
    promises: Sequence[Promise], everybody: Sequence[Seen], seconds: float, calls: int, lines_max: int = 8
) -> list[str]:
    """The verdict to be read."""
    lines: list[str] = []
    outcomes: Counter[str] = Counter()
    for one in everybody:
        outcomes.update(one.outcomes)
    lines += _columns(outcomes)
    for one in everybody:
        if one.rss_tenth and one.rss_end:
            tenths = " ".join(f"{one.rss_in(tenth) / 2**20:.0f}" for tenth in range(10))
            lines.append(
                f"{one.name:<10} MiB in each tenth: {tenths}; at the end {one.rss_end / 2**20:.0f}, "
                f"{one.rss_end / one.rss_tenth:.0%} of that after the first"
            )
    lines.append(f"{calls:,} calls in {seconds:.0f} s, {calls / max(seconds, 0.001):,.0f} a second")
    for promise in promises:
        lines.append(f"{'kept  ' if promise.kept else 'BROKEN'}  {promise.name}")
        lines += [f"          {found}"[:900] for found in promise.found[:lines_max]]
        if len(promise.found) > lines_max:
            lines.append(f"          and {len(promise.found) - lines_max} more")
    return lines


def _columns(outcomes: Mapping[str, int]) -> list[str]:
    return [f"{count:>10,}  {name}" for name, count in sorted(outcomes.items())]

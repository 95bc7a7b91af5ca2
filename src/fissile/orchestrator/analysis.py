"""Whether a new release answers as well as the one that serves beside it, at the same time.

Compared are the answers that people got: how many were errors, how many were slow by the measure of the other
release, and which exceptions were seen in one alone. Only a difference that chance hardly makes counts: both
shares are taken at the unfavourable end of their confidence interval (Wilson 1927, the score interval), at
three standard deviations, because it is looked at many times. Too few requests decide nothing.

How often chance alone takes a release back that is as good, by simulation: looked at every half second for a minute,
at 5 to 100 requests a second and shares from a twentieth to nine tenths, with up to 30 % of errors, times that are
lognormal, Pareto or of two modes, and up to 5 kinds of exceptions in up to 5 % of the requests. Worst of all, in
hundreds of watches each: for errors 0.3 %, for slow answers 0.5 %, for exceptions 0.5 %.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from math import sqrt

import msgspec

from fissile.orchestrator.reasons import AsGood, FailsMore, NewException, Reason, Slower, TooFewRequests
from fissile.telemetry.aggregate import Answers, seconds_of

REQUESTS_MIN = 30
DEVIATIONS = 3.0
# What an error costs is worth a rollback from here on, whatever its certainty.
ERRORS_MORE_MIN = 0.005
# Slow: slower than all but 5 % of the other's answers; three times as many of those are too many.
SLOW_SHARE = 0.05
SLOW_SHARE_MAX = 0.15
SLOWER_SECONDS_MIN = 0.005
SLOWER_RATIO_MIN = 1.2
KIND_COUNT_MIN = 3
# That all exceptions of a kind fell to the new release by chance, though both raise it.
KIND_CHANCE_MAX = 0.002


class Verdict(StrEnum):
    """Of a new release beside the old one."""

    PASSED = "passed"
    FAILED = "failed"
    INCONCLUSIVE = "inconclusive"


class Analysis(msgspec.Struct, frozen=True):
    """A verdict and what it rests on."""

    verdict: Verdict
    reason: Reason


def compare(new: Answers, old: Answers) -> Analysis:
    """Judge the new release by what both answered meanwhile."""
    worse = _errors(new, old) or _slow(new, old) or _kinds(new, old)
    if worse is not None:
        return Analysis(Verdict.FAILED, worse)
    if new.count < REQUESTS_MIN or old.count < REQUESTS_MIN:
        few = TooFewRequests(new.count < REQUESTS_MIN, min(new.count, old.count), REQUESTS_MIN)
        return Analysis(Verdict.INCONCLUSIVE, few)
    return Analysis(Verdict.PASSED, AsGood(new.errors, new.count, old.errors, old.count))


def _errors(new: Answers, old: Answers) -> FailsMore | None:
    if new.errors < KIND_COUNT_MIN:
        return None
    least = interval(new.errors, new.count)[0]
    most = interval(old.errors, old.count)[1] if old.count else 0.0
    if old.count < REQUESTS_MIN:
        # Nobody to compare with: an answer that fails every second time is bad by itself.
        most = 0.5
    if least <= max(most, old.errors / max(1, old.count) + ERRORS_MORE_MIN):
        return None
    return FailsMore(new.errors, new.count, old.errors, old.count)


def _slow(new: Answers, old: Answers) -> Slower | None:
    if old.count < REQUESTS_MIN:
        return None
    usual = quantile(old.latencies, 1.0 - SLOW_SHARE)
    limit = max(seconds_of(usual) * SLOWER_RATIO_MIN, seconds_of(usual) + SLOWER_SECONDS_MIN)
    slow = sum(count for number, count in new.latencies.items() if seconds_of(number) > limit)
    total = sum(new.latencies.values())
    if slow < KIND_COUNT_MIN or interval(slow, total)[0] <= SLOW_SHARE_MAX:
        return None
    return Slower(slow, total, limit, 1.0 - SLOW_SHARE)


def _kinds(new: Answers, old: Answers) -> NewException | None:
    share = new.count / max(1, new.count + old.count)
    many = len(new.kinds.keys() | old.kinds.keys())
    for kind, count in new.kinds.items():
        # Any of those that there are may be the one that seems to be new.
        if count >= KIND_COUNT_MIN and kind not in old.kinds and many * share**count <= KIND_CHANCE_MAX:
            return NewException(kind, count)
    return None


def interval(hits: int, total: int) -> tuple[float, float]:
    """The bounds between which the true share lies, at DEVIATIONS. (0, 1) where nothing is known."""
    if total <= 0:
        return 0.0, 1.0
    z = DEVIATIONS
    share = hits / total
    centre = share + z * z / (2 * total)
    spread = z * sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    scale = 1 + z * z / total
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def quantile(latencies: Mapping[int, int], share: float) -> int:
    """The bucket below which this share of the answers is."""
    wanted = share * sum(latencies.values())
    passed = 0
    numbers: Sequence[int] = sorted(latencies)
    for number in numbers:
        passed += latencies[number]
        if passed >= wanted:
            return number
    return numbers[-1] if numbers else 0

"""The autoscaler on load curves beside models of two others, on a virtual clock: who has too few or too many?

All have the same target per replica, the same curves, and replicas that take START_SECONDS to become ready. Each
sees the load as it would: Fissile is told every 0.1 s by callers; Knative scrapes every second and decides every
two; Kubernetes has metrics and decisions every 15 s. What differs then is the algorithm and its cadence.

Sources of the models, all with their defaults:
- HPA: kubernetes/kubernetes, pkg/controller/podautoscaler (replica_calculator.go, horizontal.go): ratio with a
  tolerance of 0.1, pods without metrics count as idle on the way up and as on target on the way down; up by 4
  pods or 100 % per 15 s; down by the highest recommendation of the last 300 s; sync and metrics every 15 s.
- KPA: knative/serving, pkg/autoscaler/scaling/autoscaler.go and config-autoscaler: stable window 60 s, panic
  window 6 s, threshold 200 %, rates 1000 up and 2 down, ticks of 2 s. Its target percentage is 100 here, so that
  all three aim at the same.
"""

import math
import random
import sys
from collections import deque
from collections.abc import Callable
from typing import Protocol

import msgspec

from fissile.bench.report import Figure, figure
from fissile.orchestrator.autoscale import Autoscaler, Demand, ScalingPolicy

TARGET = 4.0
START_SECONDS = 1.0
TICK_SECONDS = 0.1
REPLICAS_MAX = 100
LENGTH_SECONDS = 1200
NAME = "service"
Curve = Callable[[float], float]


def curves(seed: int = 1) -> dict[str, Curve]:
    """Calls in flight by second."""
    dice = random.Random(seed)
    noise = [dice.gauss(0, 1) for _ in range(LENGTH_SECONDS + 1)]
    peaks = {dice.randrange(60, LENGTH_SECONDS - 60) for _ in range(12)}

    def day(t: float) -> float:
        return 22 - 18 * math.cos(2 * math.pi * t / LENGTH_SECONDS)

    return {
        "step x10 and back": lambda t: 40.0 if 300 <= t < 700 else 4.0,
        "steady, noisy": lambda t: max(0.0, 20 + 3 * noise[int(t)]),
        "a day in 20 minutes": day,
        "a day, noisy": lambda t: max(0.0, day(t) + 2 * noise[int(t)]),
        "12 peaks of 5 s": lambda t: 40.0 if any(0 <= t - peak < 5 for peak in peaks) else 6.0,
        "saw of 2 minutes": lambda t: 4 + 36 * ((t % 120) / 120),
    }


class Scaler(Protocol):
    """One autoscaler at work."""

    def wants(self, load: float, ready: int, wanted: int, now: float) -> int:
        """How many replicas from now on."""
        ...


class Fissile:
    """The real one."""

    def __init__(self) -> None:
        self._scaler = Autoscaler()
        self._policies = {NAME: ScalingPolicy(1, REPLICAS_MAX, target=TARGET)}

    def wants(self, load: float, ready: int, wanted: int, now: float) -> int:
        """See Scaler."""
        demands = {NAME: Demand(load, ready)}
        found = self._scaler.decide(self._policies, {NAME: wanted}, demands, cores=REPLICAS_MAX, now=now)
        return found[-1].replicas if found else wanted


class Knative:
    """The model of the KPA."""

    def __init__(self) -> None:
        self._samples: deque[float] = deque(maxlen=60)
        self._next_scrape = 0.0
        self._next_tick = 0.0
        self._panic_at: float | None = None
        self._panic_peak = 0

    def wants(self, load: float, ready: int, wanted: int, now: float) -> int:
        """See Scaler."""
        if now >= self._next_scrape:
            self._next_scrape += 1.0
            self._samples.append(load)
        if now < self._next_tick:
            return wanted
        self._next_tick += 2.0
        recent = list(self._samples)
        stable, panic = sum(recent) / len(recent), sum(recent[-6:]) / len(recent[-6:])
        ready = max(ready, 1)
        up, down = math.ceil(1000 * ready), math.floor(ready / 2)
        by_stable = max(min(math.ceil(stable / TARGET), up), down)
        by_panic = max(min(math.ceil(panic / TARGET), up), down)
        over = math.ceil(panic / TARGET) / ready >= 2.0
        if over:
            self._panic_at = now
        elif self._panic_at is not None and now - self._panic_at > 60:
            self._panic_at, self._panic_peak = None, 0
        desired = by_stable
        if self._panic_at is not None:
            self._panic_peak = max(self._panic_peak, by_stable, by_panic)
            desired = self._panic_peak
        return min(max(desired, 1), REPLICAS_MAX)


class Kubernetes:
    """The model of the HPA, autoscaling/v2 with a metric per pod."""

    def __init__(self) -> None:
        self._next = 0.0
        self._recommended: deque[tuple[float, int]] = deque()
        self._changes: deque[tuple[float, int]] = deque()

    def wants(self, load: float, ready: int, wanted: int, now: float) -> int:
        """See Scaler."""
        if now < self._next:
            return wanted
        self._next += 15.0
        recommended = self._recommendation(load, max(ready, 1), wanted)
        self._recommended.append((now, recommended))
        while self._recommended[0][0] < now - 300:
            self._recommended.popleft()
        if recommended < wanted:
            recommended = min(wanted, max(value for _, value in self._recommended))
        while self._changes and self._changes[0][0] <= now - 15:
            self._changes.popleft()
        added = sum(max(0, change) for _, change in self._changes)
        removed = sum(max(0, -change) for _, change in self._changes)
        before = wanted - added + removed
        recommended = min(recommended, max(before + 4, before * 2))
        recommended = min(max(recommended, 1), REPLICAS_MAX)
        if recommended != wanted:
            self._changes.append((now, recommended - wanted))
        return recommended

    @staticmethod
    def _recommendation(load: float, ready: int, wanted: int) -> int:
        ratio = load / ready / TARGET
        missing = max(0, wanted - ready)
        if not missing:
            return wanted if abs(ratio - 1) <= 0.1 else math.ceil(ratio * ready)
        filled = missing * TARGET if ratio < 1 else 0.0
        corrected = (load + filled) / (ready + missing) / TARGET
        if abs(corrected - 1) <= 0.1 or (ratio < 1) != (corrected < 1):
            return wanted
        return math.ceil(corrected * (ready + missing))


SCALERS: dict[str, Callable[[], Scaler]] = {"HPA": Kubernetes, "KPA": Knative, "Fissile": Fissile}


class Replay(msgspec.Struct, frozen=True):
    """under, over: seconds with too few or too many ready replicas. lacking, spare: replica-seconds of the same."""

    under: float
    over: float
    lacking: float
    spare: float
    reversals: int


def replay(make: Callable[[], Scaler], curve: Curve) -> Replay:
    """One autoscaler on one curve. Before it begins, all have had the curve's first load for two minutes."""
    scaler = make()
    wanted = ready = max(1, math.ceil(curve(0.0) / TARGET))
    starting: list[float] = []
    under = over = lacking = spare = 0.0
    reversals, way = 0, 0
    warm_up = 120.0
    for tick in range(round((warm_up + LENGTH_SECONDS) / TICK_SECONDS)):
        now = tick * TICK_SECONDS
        load = curve(max(0.0, now - warm_up))
        ready += sum(when <= now for when in starting)
        starting = [when for when in starting if when > now]
        if now >= warm_up:
            missing = math.ceil(load / TARGET - 1e-9) - ready
            if missing > 0:
                under += TICK_SECONDS
                lacking += missing * TICK_SECONDS
            elif ready > max(1, math.ceil(load / TARGET - 1e-9)):
                over += TICK_SECONDS
                spare += (ready - max(1, math.ceil(load / TARGET - 1e-9))) * TICK_SECONDS
        before, wanted = wanted, scaler.wants(load, ready, wanted, now)
        if wanted != before:
            moved = 1 if wanted > before else -1
            reversals += now >= warm_up and way != 0 and moved != way
            way = moved
        if wanted > ready + len(starting):
            starting += [now + START_SECONDS] * (wanted - ready - len(starting))
        while wanted < ready + len(starting):
            if starting:
                starting.pop()
            else:
                ready -= 1
    return Replay(under, over, lacking, spare, reversals)


def table() -> str:
    """Every autoscaler on every curve."""
    lines = [
        f"{'curve':<22}{'autoscaler':<12}{'too few':>9}{'too many':>10}{'lacking':>10}{'spare':>10}{'reversals':>11}",
        f"{'':<34}{'s':>9}{'s':>10}{'repl. s':>10}{'repl. s':>10}",
    ]
    for name, curve in curves().items():
        for scaler, make in SCALERS.items():
            one = replay(make, curve)
            lines.append(
                f"{name:<22}{scaler:<12}{one.under:>9.1f}{one.over:>10.1f}{one.lacking:>10.0f}{one.spare:>10.0f}"
                f"{one.reversals:>11}"
            )
            name = ""
    return "\n".join(lines)


def figures() -> list[Figure]:
    """The sums over all curves."""
    found: list[Figure] = []
    for scaler, make in SCALERS.items():
        runs = [replay(make, curve) for curve in curves().values()]
        length = LENGTH_SECONDS * len(runs)
        name = f"autoscaling, {len(runs)} curves replayed, {scaler}"
        found += [
            figure(f"{name}: time with too few replicas", 100 * sum(one.under for one in runs) / length, "%"),
            figure(f"{name}: time with too many replicas", 100 * sum(one.over for one in runs) / length, "%"),
            figure(f"{name}: replicas lacking, average", sum(one.lacking for one in runs) / length, "replicas"),
            figure(f"{name}: replicas to spare, average", sum(one.spare for one in runs) / length, "replicas"),
            figure(f"{name}: reversals", sum(one.reversals for one in runs), "times"),
        ]
    return found


if __name__ == "__main__":
    sys.stdout.write(table() + "\n")

"""How many replicas a service should have, by what its callers see.

The model is Knative's pod autoscaler (KPA; knative.dev/docs/serving/autoscaling, pkg/autoscaler/scaling
in knative/serving): the calls in flight and waiting, averaged over a stable window of 60 s, divided by what
one replica is meant for. When a short window shows far more than the ready replicas are meant for, it
panics: it follows the short window, and never goes down until the panic has been over for a stable window. One
step down takes at most half.

Where it differs, and why:
- Callers push what they see within a tenth of a second, where KPA scrapes every one or two seconds. So
  beside the panic window of 6 s, in which a sudden load is diluted for seconds, there is a burst window of
  0.5 s: enough replicas are wanted within a second of a step.
- KPA panics at twice what is ready, and leaves less to the stable window, which may take a minute to see it.
  Here the burst window panics at twice, and the panic window at a tenth more than what is ready: calls that
  have waited for six seconds have waited long enough.
- Going down needs a tenth less than the lower count could carry (the tolerance of the Kubernetes HPA), so
  that a load at the border of two counts does not swing between them.
- What is not known is not zero: a service goes down only once it was looked at for a whole stable window, without a
  gap. A supervisor that has just come, or was stopped for a while, knows of no load and has seen none go.
- All services share one machine. Replicas above a service's minimum are counted against its cores; where
  they do not suffice, they are shared by weight, the emptiest share first (water-filling). The one replica of
  a service that wakes counts as its minimum: no neighbour's load keeps it asleep.
- A service whose calls only wait for another service is not scaled: more of it would wait as well. The
  reason names the other.
"""

from collections.abc import Mapping
from math import ceil, inf

import msgspec

STABLE_SECONDS = 60.0
PANIC_SECONDS = 6.0
BURST_SECONDS = 0.5
BURST_THRESHOLD = 2.0
PANIC_THRESHOLD = 1.1
SCALE_DOWN_RATE_MAX = 2.0
DOWN_TOLERANCE = 0.1
WAITING_SHARE = 0.8
# Between two looks; after more, nothing is known of the time before.
GAP_SECONDS_MAX = 6.0


class ScalingPolicy(msgspec.Struct, frozen=True):
    """Between which counts, and by what: `target` calls in flight and waiting are meant for one replica.

    weight: its share when cores are scarce. idle_seconds: with replicas_min = 0, how long nothing happens
    before it sleeps. group: those of one share the cores; what a rollout brings is a group of its own, so that
    it takes nothing from what serves. least: as many are wanted whatever the load is, as far as the cores go: what a
    rollout brings has no load yet.
    """

    replicas_min: int = 1
    replicas_max: int = 1
    target: float = 10.0
    weight: float = 1.0
    idle_seconds: float = 60.0
    group: str = ""
    least: int = 0


class Demand(msgspec.Struct, frozen=True):
    """One look at one service.

    in_flight: calls in flight and waiting, as its callers and its public door see them. ready: replicas.
    waiting: of its own calls, how many wait for which other service. wake: somebody knocks though it sleeps.
    """

    in_flight: float
    ready: int
    waiting: Mapping[str, float] = {}
    wake: bool = False


class Decision(msgspec.Struct, frozen=True):
    """So many replicas instead of `previous`, and why. The same number: why it is not scaled."""

    service: str
    replicas: int
    previous: int
    reason: str


class Window:
    """The average of the last seconds, in buckets."""

    __slots__ = ("_count", "_counts", "_last", "_size", "_sums", "_total", "_width")

    def __init__(self, seconds: float, buckets: int) -> None:
        self._width = seconds / buckets
        self._size = buckets
        self._sums = [0.0] * buckets
        self._counts = [0] * buckets
        self._total = 0.0
        self._count = 0
        self._last = -1

    def add(self, value: float, now: float) -> None:
        """A sample."""
        index = int(now / self._width)
        if index != self._last:
            for old in range(max(self._last + 1, index - self._size + 1), index + 1):
                place = old % self._size
                self._total -= self._sums[place]
                self._count -= self._counts[place]
                self._sums[place] = 0.0
                self._counts[place] = 0
            self._last = index
        place = index % self._size
        self._sums[place] += value
        self._counts[place] += 1
        self._total += value
        self._count += 1

    def average(self) -> float:
        """Of all samples in the window; 0 without any."""
        return max(0.0, self._total / self._count) if self._count else 0.0


class _Memory:
    """What is remembered of one service."""

    __slots__ = (
        "burst",
        "burst_at",
        "busy_at",
        "held",
        "panic",
        "panic_at",
        "panic_peak",
        "seen_at",
        "since",
        "stable",
    )

    def __init__(self, now: float) -> None:
        self.stable = Window(STABLE_SECONDS, 60)
        self.panic = Window(PANIC_SECONDS, 30)
        self.burst = Window(BURST_SECONDS, 5)
        self.busy_at = now
        # Since when it is looked at, and when it was last.
        self.since = self.seen_at = now
        self.burst_at = -inf
        self.panic_at = -inf
        self.panic_peak = 0
        self.held = ""


class Autoscaler:
    """Decides for all services of one application. Ask it about every tenth of a second."""

    def __init__(self) -> None:
        self._memories: dict[str, _Memory] = {}

    def decide(
        self,
        policies: Mapping[str, ScalingPolicy],
        wanted: Mapping[str, int],
        demands: Mapping[str, Demand],
        *,
        cores: int,
        now: float,
    ) -> list[Decision]:
        """What is to be altered. wanted: replicas desired now. cores: for all replicas of a group above the minima.

        now: seconds, monotonic. Services without a policy or a demand are left alone.
        """
        wishes: dict[str, tuple[int, str]] = {}
        decisions: list[Decision] = []
        for name, policy in policies.items():
            demand = demands.get(name)
            if demand is None or name not in wanted:
                continue
            memory = self._memories.get(name)
            if memory is None:
                memory = self._memories[name] = _Memory(now)
            previous = wanted[name]
            replicas, reason = _wish(memory, policy, demand, previous, now)
            held = _held(demand, replicas, previous)
            if held:
                if held != memory.held:
                    share, callee = demand.waiting[held] / demand.in_flight, held
                    why = f"not scaled to {replicas}: {min(share, 1.0):.0%} of its calls wait for {callee}"
                    decisions.append(Decision(name, previous, previous, why))
                replicas, reason = previous, ""
            memory.held = held
            if replicas < policy.least:
                replicas, reason = policy.least, "the requests of the earlier release are to come"
            wishes[name] = (min(max(replicas, policy.replicas_min), policy.replicas_max), reason)
        for name in [name for name in self._memories if name not in policies]:
            del self._memories[name]
        for name, replicas in _share(policies, wishes, cores).items():
            wish, reason = wishes[name]
            previous = wanted[name]
            if replicas != previous:
                if replicas < wish:
                    reason = f"{reason or f'{wish} wanted'}, but the {cores} cores are shared: {replicas}"
                decisions.append(Decision(name, replicas, previous, reason or "bounds were altered"))
        # What is given back first is what others may have.
        return sorted(decisions, key=lambda decision: decision.replicas - decision.previous)


def _wish(memory: _Memory, policy: ScalingPolicy, demand: Demand, previous: int, now: float) -> tuple[int, str]:
    """How many it should have, whatever the machine has; and why."""
    value, target = demand.in_flight, policy.target
    if now - memory.seen_at > GAP_SECONDS_MAX:
        memory.since = memory.busy_at = now
    memory.seen_at = now
    memory.stable.add(value, now)
    memory.panic.add(value, now)
    memory.burst.add(value, now)
    if value > 0 or demand.wake:
        memory.busy_at = now
    if previous == 0:
        if value > 0 or demand.wake:
            return max(1, policy.replicas_min), "a call came to it while it slept"
        return policy.replicas_min, "its minimum"
    if policy.least:
        memory.panic_at = now  # as after a burst, until there is a window in which it had its load
    burst, panic = memory.burst.average(), memory.panic.average()
    carried = max(1, demand.ready) * target
    if burst >= BURST_THRESHOLD * carried:
        memory.burst_at = now
    # Once there was a burst, it is followed to its top: the longer window still holds the time before.
    bursting = now - memory.burst_at <= PANIC_SECONDS
    short = max(panic, burst) if bursting else panic
    if memory.burst_at == now or panic >= PANIC_THRESHOLD * carried:
        if now - memory.panic_at > STABLE_SECONDS:
            memory.panic_peak = 0
        memory.panic_at = now
    if now - memory.panic_at <= STABLE_SECONDS:
        memory.panic_peak = max(memory.panic_peak, ceil(short / target), previous)
        seconds = BURST_SECONDS if short > panic else PANIC_SECONDS
        return memory.panic_peak, (
            f"{short:.1f} in flight over {seconds:g} s, {demand.ready} ready are meant for {carried:g}: panic"
        )
    if policy.replicas_min == 0 and now - memory.busy_at >= policy.idle_seconds:
        return 0, f"nothing came for {policy.idle_seconds:g} s"
    stable = memory.stable.average()
    replicas = max(1, ceil(stable / target))
    if replicas < previous and now - memory.since < STABLE_SECONDS:
        replicas = previous
    if replicas < previous:
        # The lowest count that would still carry it with the tolerance, and no more than half at once.
        replicas = max(1, ceil(stable / (target * (1 - DOWN_TOLERANCE))), ceil(previous / SCALE_DOWN_RATE_MAX))
        replicas = min(replicas, previous)
    return replicas, f"{stable:.1f} in flight over {STABLE_SECONDS:g} s, {target:g} are meant for one replica"


def _held(demand: Demand, replicas: int, previous: int) -> str:
    """The service for which it only waits, where it would be scaled up in vain; else ""."""
    if replicas <= previous or previous == 0 or not demand.waiting or demand.in_flight <= 0:
        return ""
    callee = max(demand.waiting, key=lambda name: demand.waiting[name])
    return callee if demand.waiting[callee] >= WAITING_SHARE * demand.in_flight else ""


def _share(policies: Mapping[str, ScalingPolicy], wishes: Mapping[str, tuple[int, str]], cores: int) -> dict[str, int]:
    """The wishes, cut to what the cores allow."""
    groups = {policies[name].group for name in wishes}
    if len(groups) > 1:
        shared: dict[str, int] = {}
        for group in sorted(groups):
            own = {name: wish for name, wish in wishes.items() if policies[name].group == group}
            shared |= _share(policies, own, cores)
        return {name: shared[name] for name in wishes}
    floors = {name: max(policies[name].replicas_min, min(1, wish)) for name, (wish, _) in wishes.items()}
    extras = {name: wish - floors[name] for name, (wish, _) in wishes.items()}
    if sum(extras.values()) <= cores:
        return {name: wish for name, (wish, _) in wishes.items()}
    given = dict.fromkeys(extras, 0)
    for _ in range(cores):
        hungry = [name for name in extras if given[name] < extras[name]]
        name = min(hungry, key=lambda name: ((given[name] + 1) / policies[name].weight, name))
        given[name] += 1
    return {name: floors[name] + given[name] for name in wishes}

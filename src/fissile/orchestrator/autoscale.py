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
- A service whose calls only wait for another service is not scaled: more of it would wait as well. That is said when
  it begins and when it is over, with the service that holds up all the others: at the end of the chain of those that
  wait for each other.
"""

from collections.abc import Mapping
from math import ceil, inf

import msgspec

from fissile.names import OfSet, SetName, service_of
from fissile.orchestrator.reasons import (
    AtMinimum,
    BoundsAltered,
    CoresShared,
    Freed,
    Load,
    NoCalls,
    NotScaled,
    Panic,
    Reason,
    RolloutNeeds,
    Woken,
)

STABLE_SECONDS = 60.0
PANIC_SECONDS = 6.0
BURST_SECONDS = 0.5
BURST_THRESHOLD = 2.0
PANIC_THRESHOLD = 1.1
SCALE_DOWN_RATE_MAX = 2.0
DOWN_TOLERANCE = 0.1
WAITING_SHARE = 0.8
# A service that has not been held for so long is so no more. A load at the border of two counts is one story, not many.
FREE_SECONDS = 300.0
# Between two looks; after more, nothing is known of the time before.
GAP_SECONDS_MAX = 6.0


class ScalingPolicy(msgspec.Struct, frozen=True):
    """Between which counts, and by what: `target` calls in flight and waiting are meant for one replica.

    weight: its share when cores are scarce. idle_seconds: with replicas_min = 0, how long nothing happens
    before it sleeps. group: those of one share the cores; what a rollout brings is a group of its own, so that
    it takes nothing from what serves. replica_floor: as many are wanted whatever the load is, as far as the
    cores go: what a rollout brings has no load yet.
    """

    replicas_min: int = 1
    replicas_max: int = 1
    target: float = 10.0
    weight: float = 1.0
    idle_seconds: float = 60.0
    group: str = ""
    replica_floor: int = 0


class Demand(msgspec.Struct, frozen=True):
    """One look at one service.

    in_flight: calls in flight and waiting, as its callers and its public door see them. ready: replicas.
    waiting: of its own calls, how many wait for which other set. wake: somebody knocks though it sleeps.
    places: for calls at once, in all its replicas; 0: not known.
    """

    in_flight: float
    ready: int
    waiting: Mapping[SetName, float] = {}
    wake: bool = False
    places: int = 0


class Decision(OfSet, frozen=True):
    """So many replicas instead of `previous`, and why."""

    replicas: int
    previous: int
    reason: Reason


class Held(OfSet, frozen=True):
    """A service is not scaled up, because its calls wait for another one; or, with `over`, not any more.

    by: the one that holds it up; of several in turn, that which did so for the longest.
    """

    by: SetName
    reason: Reason
    over: bool = False


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


class _Episode:
    """For how long one service is held, and by whom. Seconds; times are monotonic."""

    __slots__ = ("by", "last", "since")

    def __init__(self, now: float) -> None:
        self.since = self.last = now
        self.by: dict[SetName, float] = {}

    def goes_on(self, by: SetName, now: float) -> None:
        """It is held now, too."""
        self.by[by] = self.by.get(by, 0.0) + min(now - self.last, GAP_SECONDS_MAX)
        self.last = now

    def most(self) -> SetName:
        """Who holds it for the longest."""
        return max(self.by, key=lambda name: self.by[name])

    def over(self, name: SetName, quiet_seconds: float) -> Held:
        """What is said at its end. quiet_seconds: for how long it has not waited; 0: nothing scales it any more."""
        by, held, whole = self.most(), sum(self.by.values()), self.last - self.since
        return Held(name, by, Freed(quiet_seconds, held, whole, service_of(by), self.by[by]), over=True)


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
        self.held: _Episode | None = None


class Autoscaler:
    """Decides for all services of one application. Ask it about every tenth of a second."""

    def __init__(self) -> None:
        self._memories: dict[SetName, _Memory] = {}
        self._news: list[Held] = []

    def news(self) -> list[Held]:
        """Who is held, or is so no more, since this was last asked. Two for each episode, however long it lasts."""
        news, self._news = self._news, []
        return news

    def decide(
        self,
        policies: Mapping[SetName, ScalingPolicy],
        wanted: Mapping[SetName, int],
        demands: Mapping[SetName, Demand],
        *,
        cores: int,
        now: float,
    ) -> list[Decision]:
        """What is to be altered. wanted: replicas desired now. cores: for all replicas of a group above the minima.

        now: seconds, monotonic. Services without a policy are left alone, but they may be whom others wait for; so are
        those without a demand.
        """
        asked: dict[SetName, tuple[int, Reason | None]] = {}
        decisions: list[Decision] = []
        for name, policy in policies.items():
            demand = demands.get(name)
            if demand is None or name not in wanted:
                continue
            memory = self._memories.get(name)
            if memory is None:
                memory = self._memories[name] = _Memory(now)
            previous = wanted[name]
            replicas, reason = _asked_for(memory, policy, demand, previous, now)
            chain = _waiting_chain(name, demands) if replicas > previous > 0 else ()
            if chain:
                if memory.held is None:
                    memory.held = _Episode(now)
                    why = _not_scaled(replicas, demand, chain, policies, wanted, demands)
                    self._news.append(Held(name, chain[-1], why))
                memory.held.goes_on(chain[-1], now)
                replicas, reason = previous, None
            elif memory.held is not None and now - memory.held.last >= FREE_SECONDS:
                self._news.append(memory.held.over(name, FREE_SECONDS))
                memory.held = None
            if replicas < policy.replica_floor:
                replicas, reason = policy.replica_floor, RolloutNeeds()
            asked[name] = (min(max(replicas, policy.replicas_min), policy.replicas_max), reason)
        for name in [name for name in self._memories if name not in policies]:
            gone = self._memories.pop(name).held
            if gone is not None:
                self._news.append(gone.over(name, 0.0))
        for name, replicas in _share(policies, asked, cores).items():
            count, reason = asked[name]
            previous = wanted[name]
            if replicas != previous:
                if replicas < count:
                    reason = CoresShared(reason, count, cores, replicas)
                decisions.append(Decision(name, replicas, previous, reason or BoundsAltered()))
        # What is given back first is what others may have.
        return sorted(decisions, key=lambda decision: decision.replicas - decision.previous)


def _asked_for(
    memory: _Memory, policy: ScalingPolicy, demand: Demand, previous: int, now: float
) -> tuple[int, Reason | None]:
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
            return max(1, policy.replicas_min), Woken()
        return policy.replicas_min, AtMinimum()
    if policy.replica_floor:
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
        return memory.panic_peak, Panic(short, seconds, demand.ready, carried)
    if policy.replicas_min == 0 and now - memory.busy_at >= policy.idle_seconds:
        return 0, NoCalls(policy.idle_seconds)
    stable = memory.stable.average()
    replicas = max(1, ceil(stable / target))
    if replicas < previous and now - memory.since < STABLE_SECONDS:
        replicas = previous
    if replicas < previous:
        # The lowest count that would still carry it with the tolerance, and no more than half at once.
        replicas = max(1, ceil(stable / (target * (1 - DOWN_TOLERANCE))), ceil(previous / SCALE_DOWN_RATE_MAX))
        replicas = min(replicas, previous)
    return replicas, Load(stable, STABLE_SECONDS, target)


def _waits_for(demand: Demand | None) -> SetName | None:
    """The set for which it only waits; None where it has work of its own, or nobody knows."""
    if demand is None or not demand.waiting or demand.in_flight <= 0:
        return None
    callee = max(demand.waiting, key=lambda name: demand.waiting[name])
    return callee if demand.waiting[callee] >= WAITING_SHARE * demand.in_flight else None


def _waiting_chain(name: SetName, demands: Mapping[SetName, Demand]) -> tuple[SetName, ...]:
    """For whom it waits, for whom that one waits, and so on to the one that waits for nobody; empty: it does not."""
    chain = [name]
    while (callee := _waits_for(demands.get(chain[-1]))) and callee not in chain:
        chain.append(callee)
    return tuple(chain[1:])


def _not_scaled(
    replicas: int,
    demand: Demand,
    chain: tuple[SetName, ...],
    policies: Mapping[SetName, ScalingPolicy],
    wanted: Mapping[SetName, int],
    demands: Mapping[SetName, Demand],
) -> NotScaled:
    """With what holds up the last one of the chain."""
    last, policy = demands.get(chain[-1]), policies.get(chain[-1])
    return NotScaled(
        replicas,
        min(demand.waiting[chain[0]] / demand.in_flight, 1.0),
        tuple(map(service_of, chain)),
        wanted.get(chain[-1], 0),
        policy.replicas_max if policy is not None else None,
        last.places if last is not None and 0 < last.places <= last.in_flight else 0,
    )


def _share(
    policies: Mapping[SetName, ScalingPolicy], asked: Mapping[SetName, tuple[int, Reason | None]], cores: int
) -> dict[SetName, int]:
    """What is asked for, cut to what the cores allow."""
    groups = {policies[name].group for name in asked}
    if len(groups) > 1:
        shared: dict[SetName, int] = {}
        for group in sorted(groups):
            own = {name: count for name, count in asked.items() if policies[name].group == group}
            shared |= _share(policies, own, cores)
        return {name: shared[name] for name in asked}
    floors = {name: max(policies[name].replicas_min, min(1, count)) for name, (count, _) in asked.items()}
    extras = {name: count - floors[name] for name, (count, _) in asked.items()}
    if sum(extras.values()) <= cores:
        return {name: count for name, (count, _) in asked.items()}
    given = dict.fromkeys(extras, 0)
    for _ in range(cores):
        hungry = [name for name in extras if given[name] < extras[name]]
        name = min(hungry, key=lambda name: ((given[name] + 1) / policies[name].weight, name))
        given[name] += 1
    return {name: floors[name] + given[name] for name in asked}

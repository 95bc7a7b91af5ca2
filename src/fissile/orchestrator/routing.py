"""Whom the replicas of each set call, who may call them, and who serves their visitors.

Names alone: where a replica listens and which token proves a service is the shell's to know. A request is given its
release at the edge and stays in it, so routes are by release. Only a component that declares a reference may call.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import msgspec

from fissile.names import ServiceName, SetName, service_of
from fissile.orchestrator.desired import Desired, DesiredSet, LiveRelease, Stage
from fissile.orchestrator.replica import READY, Observed, ObservedSet, Replica
from fissile.orchestrator.routes import Target
from fissile.orchestrator.routes import routes as routed_slots
from fissile.orchestrator.spec import ReleaseSpec, ServiceSpec
from fissile.runtime.control import GATEWAY_DOOR, IDLE_SECONDS_MAX, OPERATOR


class CalleeRoute(msgspec.Struct, frozen=True):
    """A replica set that is called. program: whether it asks for its token. away: why nobody is there on purpose."""

    service: ServiceName
    targets: tuple[Target, ...]
    program: bool = False
    away: str = ""


class DoorRoute(msgspec.Struct, frozen=True):
    """The other build of a public door: its share of connections, and the serials of replicas that take them."""

    share: float
    serials: tuple[int, ...]


class CallerRules(msgspec.Struct, frozen=True):
    """Who may call a set. services: those that may, with their components. references: caller → components here.

    understood: a method's fingerprint → others with which it may be called. programs: services that call by HTTP/JSON.
    """

    services: dict[ServiceName, tuple[str, ...]] = {}
    references: dict[str, frozenset[str]] = {}
    understood: dict[str, frozenset[str]] = {}
    programs: frozenset[ServiceName] = frozenset()


class SetRoutes(msgspec.Struct, frozen=True):
    """All that a set's replicas have to know of their callees, their callers and their doors; see `control.Routes`."""

    release: str
    releases: tuple[str, ...]
    callees: dict[SetName, CalleeRoute]
    targets: dict[str, dict[str, SetName]]
    shares: dict[str, float]
    other_builds: dict[str, DoorRoute]
    sticky: str
    rollout: int
    callers: CallerRules


class Told(msgspec.Struct, frozen=True):
    """What a set's replicas were told last, and the version by which they say that they have applied it."""

    version: int
    routes: SetRoutes


class DrainOrder(msgspec.Struct, frozen=True):
    """To a replica that drains; see `control.Drain`. heirs: serials of those that take kept connections, by door."""

    seconds_max: float
    idle_seconds_max: float
    heirs: dict[str, tuple[int, ...]]


class Door(NamedTuple):
    """Where clients from outside come in. service: of HTTP/JSON, whose door it is; others have names of their own."""

    name: str
    service: ServiceName = ServiceName("")


class LiveSets:
    """The replica sets of all live releases, and what follows for them from what is desired alone.

    releases: those that are loaded, by name. It never changes: what is worked out once holds for as long as both do.
    """

    def __init__(self, desired: Desired, releases: Mapping[str, ReleaseSpec]) -> None:
        self.desired = desired
        self.releases = releases
        self.shares = desired.shares()
        self._live = [releases[one.name] for one in desired.releases() if one.name in releases]
        self.names = tuple(dict.fromkeys(name for one in self._live for name in one.sets.values()))
        self._specs: dict[SetName, ServiceSpec | None] = {}
        self._called: dict[SetName, set[SetName]] = {}
        self._fixed: dict[SetName, SetRoutes] = {}
        # What was decided last of what is observed, too: it is compared, and mostly holds.
        self.targets: dict[SetName, tuple[ObservedSet | None, int, tuple[Target, ...]]] = {}
        self.routes: dict[SetName, SetRoutes] = {}

    def specs(self) -> dict[SetName, ServiceSpec]:
        """What all live sets are made of."""
        return {name: self.spec(name) for name in self.names}

    def found(self, name: SetName) -> ServiceSpec | None:
        """What a live set is made of; None where no live release has it.

        One that cannot be there twice is the same set in each release: it is made of the one that is wanted now.
        """
        if name not in self._specs:
            self._specs[name] = self._find(name)
        return self._specs[name]

    def _find(self, name: SetName) -> ServiceSpec | None:
        want = self.desired.sets.get(name)
        wanted = self.releases.get(want.release) if want is not None else None
        if not any(one.made(name) is not None for one in self._live):
            return None
        made = (one.made(name) for one in (wanted, *self._live) if one is not None)
        return next(spec for spec in made if spec is not None)

    def spec(self, name: SetName) -> ServiceSpec:
        """The same of a set that is live. Raises KeyError."""
        spec = self.found(name)
        if spec is None:
            raise KeyError(name)
        return spec

    def members(self, name: SetName) -> list[LiveRelease]:
        """The live releases that a replica set belongs to."""
        return [release for release in self.desired.releases() if name in release.sets.values()]

    def called(self, name: SetName) -> set[SetName]:
        """The replica sets that a set's replicas call, in any live release."""
        if name not in self._called:
            service = service_of(name)
            members = [release for release in self.members(name) if service in release.sets]
            self._called[name] = {other for release in members for other in self._targets(service, release).values()}
        return self._called[name]

    def fixed(self, name: SetName) -> SetRoutes:
        """What a set's replicas have to know, but for whom they reach: `callees` and `other_builds` are empty."""
        if name not in self._fixed:
            self._fixed[name] = self._fix(name)
        return self._fixed[name]

    def _fix(self, name: SetName) -> SetRoutes:
        desired, service, spec = self.desired, service_of(name), self.spec(name)
        rollout = desired.rollout
        members = self.members(name) or [desired.current]
        moved = rollout is not None and rollout.stage is Stage.PROMOTED
        targets = {release.name: self._targets(service, release) for release in members if service in release.sets}
        if rollout is not None and len(members) > 1:
            # What still calls these in the name of their release, as a task begun in a request, takes the usual way.
            there = desired.sets.keys() - set(rollout.left)
            targets = {name: {c: other for c, other in way.items() if other in there} for name, way in targets.items()}
        return SetRoutes(
            release=(members[-1] if moved else members[0]).name,
            releases=tuple(release.name for release in desired.releases()),
            callees={},
            targets=targets,
            shares=self._own_shares(members),
            other_builds={},
            sticky=rollout.sticky if rollout is not None else "",
            rollout=rollout.number if rollout is not None else 0,
            callers=self._callers(service, spec, members),
        )

    def _targets(self, service: ServiceName, release: LiveRelease) -> dict[str, SetName]:
        """Which replica set each component is in that a service calls in a release."""
        spec = self.releases[release.name]
        found: dict[str, SetName] = {}
        for component in spec.services[service].calls:
            other = spec.service_of(component)
            if other is not None and other != service:
                found[component] = release.sets[other]
        return found

    def _own_shares(self, members: list[LiveRelease]) -> dict[str, float]:
        """Of the new requests that stay here, which part each release gets."""
        shares = self.shares
        here = sum(shares[release.name] for release in members if release.name in shares)
        return {release.name: shares.get(release.name, 0.0) / here for release in members} if here > 0 else {}

    # -- who may call -------------------------------------------------------------------------------------

    def _callers(self, service: ServiceName, spec: ServiceSpec, members: list[LiveRelease]) -> CallerRules:
        """The services of the set's own releases that declare a reference, and people's tools."""
        callers: dict[ServiceName, tuple[str, ...]] = {ServiceName(OPERATOR): (OPERATOR,)}
        references: dict[str, frozenset[str]] = {OPERATOR: frozenset(spec.components)}
        programs: set[ServiceName] = set()
        for release in members:
            theirs = self.releases[release.name]
            for other in theirs.callers_of(spec.components):
                if other == service:
                    continue
                caller = theirs.services[other]
                callers[other] = tuple(dict.fromkeys((*callers.get(other, ()), *caller.components)))
                if caller.program:
                    programs.add(other)
                for component in caller.components:
                    called = frozenset(theirs.references[component]).intersection(spec.components)
                    references[component] = references.get(component, frozenset()) | called
        return CallerRules(callers, references, self._understood(members), frozenset(programs))

    def _understood(self, members: list[LiveRelease]) -> dict[str, frozenset[str]]:
        """A service that is replaced in place, and those whom it calls, meet requests of every live release."""
        found: dict[str, frozenset[str]] = {}
        for release in members:
            for other in self.desired.releases():
                theirs = self.releases[release.name].understood(self.releases[other.name])
                found |= {own: found.get(own, frozenset()) | more for own, more in theirs.items()}
        return found


class Router:
    """Decides for one state of things; it is made anew for the next, and remembers what it has decided.

    told: the targets that callers were told last, by replica set. live: of the same desired, where somebody has it.
    """

    def __init__(
        self,
        desired: Desired,
        observed: Observed,
        releases: Mapping[str, ReleaseSpec],
        told: Mapping[SetName, tuple[Target, ...]],
        live: LiveSets | None = None,
    ) -> None:
        assert live is None or live.desired is desired, "live sets of something else that was desired"
        self.live = live or LiveSets(desired, releases)
        self._desired = desired
        self._observed = observed
        self._releases = releases
        self._told = told
        self._routes: dict[SetName, SetRoutes] = {}
        self._callees: dict[SetName, CalleeRoute] = {}
        self._doors: dict[Door, list[tuple[Replica, float]]] | None = None

    def _seen(self, name: SetName) -> ObservedSet:
        """What is known of a set. To decide alters nothing: a set of which nothing is known is not noted down."""
        return self._observed.sets.get(name) or ObservedSet()

    def live_sets(self) -> tuple[SetName, ...]:
        """Those of all live releases."""
        return self.live.names

    def found(self, name: SetName) -> ServiceSpec | None:
        """See LiveSets."""
        return self.live.found(name)

    def spec(self, name: SetName) -> ServiceSpec:
        """See LiveSets."""
        return self.live.spec(name)

    def members(self, name: SetName) -> list[LiveRelease]:
        """See LiveSets."""
        return self.live.members(name)

    def called(self, name: SetName) -> set[SetName]:
        """See LiveSets."""
        return self.live.called(name)

    def program(self, name: SetName) -> bool:
        """Whether a live set's replicas are programs that know nothing of us, and are told nothing."""
        return self.spec(name).program

    def targets(self, name: SetName) -> tuple[Target, ...]:
        """Where a replica set is called now."""
        found = self._observed.sets.get(name)
        changed = found.changed if found is not None else 0
        last = self.live.targets.get(name)
        if last is None or last[0] is not found or last[1] != changed:
            last = self.live.targets[name] = found, changed, self._targets(name)
        return last[2]

    def _targets(self, name: SetName) -> tuple[Target, ...]:
        want = self._desired.sets.get(name)
        if want is None or want.zero_by:
            return ()  # its release has not come so far, or somebody has scaled it to zero
        slots = routed_slots(want, self._seen(name))
        if not self.program(name):
            return tuple(Target(slot) for slot in slots)
        newest = ((slot, self._seen(name).newest(slot)) for slot in slots)
        return tuple(Target(slot, one.serial if one is not None else 0) for slot, one in newest)

    def away(self, name: SetName) -> str:
        """Why nobody is called at a replica set, as somebody wants it so; else ""."""
        want = self._desired.sets.get(name)
        return f"is scaled to zero by {want.zero_by}" if want is not None and want.zero_by else ""

    def routes(self, name: SetName) -> SetRoutes:
        """What the replicas of a live set have to know; the same as was decided last, where nothing is different."""
        found = self._routes.get(name)
        if found is None:
            found, last = self._decide(name), self.live.routes.get(name)
            if last is not None and last.callees == found.callees and last.other_builds == found.other_builds:
                found = last
            self._routes[name] = self.live.routes[name] = found
        return found

    def _decide(self, name: SetName) -> SetRoutes:
        fixed, service, spec = self.live.fixed(name), service_of(name), self.spec(name)
        members = self.members(name) or [self._desired.current]
        return SetRoutes(
            release=fixed.release,
            releases=fixed.releases,
            callees={
                other: self._callee(other)
                for other in sorted({to for way in fixed.targets.values() for to in way.values()})
            },
            targets=fixed.targets,
            shares=fixed.shares,
            other_builds=dict(self._other_builds(service, spec, members)),
            sticky=fixed.sticky,
            rollout=fixed.rollout,
            callers=fixed.callers,
        )

    def _callee(self, name: SetName) -> CalleeRoute:
        found = self._callees.get(name)
        if found is None:
            away = self.away(name)
            targets = () if away else self._told.get(name) or self.targets(name)
            found = self._callees[name] = CalleeRoute(service_of(name), targets, self.spec(name).program, away)
        return found

    # -- doors ------------------------------------------------------------------------------------------

    def _other_builds(
        self, service: ServiceName, spec: ServiceSpec, members: list[LiveRelease]
    ) -> Iterator[tuple[str, DoorRoute]]:
        """The other builds of a set's public doors."""
        shares = self.live.shares
        for release in self._desired.releases():
            if release in members:
                continue
            theirs = self._releases[release.name]
            for door in (GATEWAY_DOOR, *spec.doors):
                other = release.sets.get((theirs.service_of(door) or ServiceName(door)) if door else service)
                there = self.found(other) if other is not None else None
                if other is None or there is None or there.program:
                    continue
                yield door, DoorRoute(shares[release.name], tuple(replica.serial for replica in self._ready(other)))

    def doors_of(self, name: SetName) -> tuple[Door, ...]:
        """The doors that a set's replicas serve by themselves."""
        return (Door(GATEWAY_DOOR, service_of(name)), *map(Door, self.spec(name).doors))

    def holders(self) -> dict[Door, list[tuple[Replica, float]]]:
        """By public door, the replicas that serve it: each with its part of the connections, 1 in all."""
        if self._doors is None:
            self._doors = self._holders()
        return self._doors

    def _holders(self) -> dict[Door, list[tuple[Replica, float]]]:
        sets: dict[Door, dict[SetName, float]] = {}
        shares = self.live.shares
        for release in self._desired.releases():
            for name in release.sets.values():
                made = self.found(name)
                if made is None or made.program:
                    continue
                for door in self.doors_of(name):
                    found = sets.setdefault(door, {})
                    found[name] = found.get(name, 0.0) + shares[release.name]
        ready = {name: self._ready(name) for name in self.live_sets()}
        return {
            door: [(one, part / len(ready[name])) for name, part in parts.items() for one in ready[name]]
            for door, parts in sets.items()
        }

    def heirs(self, name: SetName) -> dict[str, tuple[int, ...]]:
        """The serials of replicas that take the kept connections of a set's replicas that drain, by door."""
        holders = self.holders()
        return {
            door.name: tuple(other.serial for other, part in holders.get(door, ()) if part > 0.0)
            for door in self.doors_of(name)
        }

    def drain_order(self, name: SetName) -> DrainOrder:
        """What a live set's replicas that drain have to know: that may be known only after they have begun."""
        want = self._desired.sets.get(name, DesiredSet(0, 0, 0))
        heirs = self.heirs(name)
        idle = IDLE_SECONDS_MAX if want.replicas or any(heirs.values()) else 0.0
        return DrainOrder(want.drain_seconds_max, idle, heirs)

    def asleep(self) -> dict[ServiceName, str]:
        """The services that somebody has scaled to zero, once nobody accepts at their doors any more; and why."""
        if not any(want.zero_by for want in self._desired.sets.values()):
            return {}
        found: dict[ServiceName, list[SetName]] = {}
        for name in self.live_sets():
            want = self._desired.sets.get(name)
            if want is not None and want.replicas_max:
                found.setdefault(service_of(name), []).append(name)
        return {
            service: self.away(sets[0])
            for service, sets in found.items()
            if all(self.away(name) for name in sets)
            and not any(r.lives() for name in sets for r in self._seen(name).replicas.values())
        }

    def _ready(self, name: SetName) -> list[Replica]:
        return [r for r in self._seen(name).replicas.values() if r.state is READY and not r.ending]

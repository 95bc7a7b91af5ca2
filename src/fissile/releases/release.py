"""Releases: which build of each service belongs together, and what would be new in another one.

A build is the content hash of its parts: definitions, files, configuration, contracts, installed packages.
Equal parts, equal build: a service whose build stays is not touched by a deploy.
"""

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from fissile.component.contract import Break, Contracts, breaks
from fissile.names import ServiceName
from fissile.releases.callers import Calls, outside, recent
from fissile.releases.digest import digest
from fissile.releases.slicing.contents import IMPORT_ORDER, ORDER

# The part of a build by which it is another one though all else is as it was.
FORCED = "--force"


class Build(msgspec.Struct, frozen=True):
    """One service's code and configuration. parts: digests by place, as "shop/cart.py: Cart"."""

    name: str
    parts: dict[str, str]


class Release(msgspec.Struct, frozen=True):
    """One immutable set of builds of an application, in one topology (services: their components).

    references: components that a component calls. programs: those that a service's own program calls, which
    is in another language, or an application that is mounted as it is.
    """

    application: str
    topology: str
    services: dict[ServiceName, tuple[str, ...]]
    builds: dict[ServiceName, Build]
    contracts: Contracts
    references: dict[str, tuple[str, ...]]
    programs: dict[str, tuple[str, ...]] = {}

    @property
    def name(self) -> str:
        """Its content hash."""
        builds = [self.topology, *(f"{service}={build.name}" for service, build in sorted(self.builds.items()))]
        return digest("\n".join(builds))[:12]


def build_of(parts: Mapping[str, str]) -> Build:
    """A build of these parts."""
    return Build(digest("\n".join(f"{place}={content}" for place, content in sorted(parts.items())))[:12], dict(parts))


class ServiceChange(msgspec.Struct, frozen=True):
    """What a deploy does to one service. what: new, changed or gone. reasons: the parts that are why."""

    service: str
    what: str
    reasons: tuple[str, ...] = ()


class ContractBreak(msgspec.Struct, frozen=True):
    """A break, and the components and programs that call the method's component; these by their service's name.

    reasons: why it can meet a caller; none: it cannot, and `note` says why that is known.
    """

    callers: tuple[str, ...]
    found: Break
    reasons: tuple[str, ...] = ()
    note: str = ""


class Surroundings(msgspec.Struct, frozen=True):
    """What decides, beside both releases, whether a break can meet a caller.

    calls: from outside. in_place: services that are replaced where they are. now: seconds since 1970.
    """

    calls: Calls = {}
    in_place: frozenset[str] = frozenset()
    now: float = 0.0


class Difference(msgspec.Struct, frozen=True):
    """What is new in a later release. unchanged: services that stay as they are."""

    changes: tuple[ServiceChange, ...]
    unchanged: tuple[str, ...]
    breaks: tuple[ContractBreak, ...]

    @property
    def refused(self) -> tuple[ContractBreak, ...]:
        """The breaks that can meet a caller."""
        return tuple(one for one in self.breaks if one.reasons)

    @property
    def noted(self) -> tuple[ContractBreak, ...]:
        """Those that cannot."""
        return tuple(one for one in self.breaks if not one.reasons)


def difference(earlier: Release, later: Release, around: Surroundings = Surroundings()) -> Difference:  # noqa: B008
    """What deploying `later` over `earlier` would do."""
    changes: list[ServiceChange] = []
    unchanged: list[str] = []
    for service, build in later.builds.items():
        before = earlier.builds.get(service)
        if before is None:
            changes.append(ServiceChange(service, "new"))
        elif before.name != build.name:
            changes.append(ServiceChange(service, "changed", _reasons(before.parts, build.parts)))
        else:
            unchanged.append(service)
    changes += [ServiceChange(service, "gone") for service in earlier.builds if service not in later.builds]
    found = (_judged(one, earlier, later, around) for one in breaks(earlier.contracts, later.contracts))
    return Difference(tuple(changes), tuple(unchanged), tuple(one for one in found if one is not None))


def _judged(one: Break, earlier: Release, later: Release, around: Surroundings) -> ContractBreak | None:
    """A break, and whether it can meet a caller; None where there is no caller.

    A request stays in its release, and whoever calls a method that changes has another build himself: the contract is
    part of it. So callers within the application meet the other release only where something is replaced in place, or
    is a program, whose calls belong to no release. Calls within a service are of one release in any case.
    """
    found = ContractBreak(_callers(earlier, one), one)
    called = around.calls.get(one.method)
    if not (_crosses(found, earlier) or _crosses(found, later) or recent(called, around.now)):
        return None
    reasons = [*_meetings(found, earlier, later, around)]
    may_be, words = outside(called, around.now)
    if may_be:
        return msgspec.structs.replace(found, reasons=(*reasons, words))
    moved = f"{_listed(found.callers)} {'are' if len(found.callers) > 1 else 'is'} replaced with it"
    return msgspec.structs.replace(found, reasons=tuple(reasons), note="" if reasons else f"{moved}; {words}")


def _meetings(one: ContractBreak, earlier: Release, later: Release, around: Surroundings) -> Iterator[str]:
    """Where callers within the application meet the other release."""
    for caller in one.callers:
        if caller in earlier.programs and _component(one.found) in earlier.programs[caller]:
            yield f"{caller} is a program, and its calls belong to no release"
    homes = [_homes(earlier), _homes(later)]
    concerned = {home[name] for home in homes for name in (_component(one.found), *one.callers) if name in home}
    for service in sorted(concerned & around.in_place):
        yield f"{service} cannot run twice at once, so requests of both releases meet it"
    for service in sorted(concerned - around.in_place):
        before, after = earlier.builds.get(service), later.builds.get(service)
        if before is not None and before == after and any(homes[0].get(caller) == service for caller in one.callers):
            yield f"{service} stays as it is, and calls it"


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def parted(earlier: Release, later: Release) -> frozenset[str]:
    """The components that some caller shares a service with in the earlier release, and not in the later one."""
    before, after = _homes(earlier), _homes(later)
    return frozenset(
        target
        for caller, targets in later.references.items()
        for target in targets
        if before.get(caller, "") == before.get(target) and after.get(caller) != after.get(target)
    )


def _reasons(before: Mapping[str, str], after: Mapping[str, str]) -> tuple[str, ...]:
    places = [place for place in sorted(before.keys() | after.keys()) if before.get(place) != after.get(place)]
    if len(places) > 1 and IMPORT_ORDER in places:
        places.remove(IMPORT_ORDER)
    # Whatever is new or gone alters the order as well.
    plain = {place.partition(":")[0] for place in places if not place.endswith(ORDER)}
    return tuple(
        "it is forced"
        if place == FORCED
        else f"{place} {'is new' if place not in before else 'is gone' if place not in after else 'changed'}"
        for place in places
        if not place.endswith(ORDER) or place.removesuffix(ORDER) not in plain
    )


def _callers(release: Release, one: Break) -> tuple[str, ...]:
    component = _component(one)
    calls = [*release.references.items(), *release.programs.items()]
    return tuple(dict.fromkeys(caller for caller, targets in calls if component in targets))


def _component(one: Break) -> str:
    return one.method.partition(".")[0]


def _homes(release: Release) -> dict[str, ServiceName]:
    """The service of each component, and of each program."""
    homes = {component: service for service, members in release.services.items() for component in members}
    return {service: ServiceName(service) for service in release.programs} | homes


def _crosses(one: ContractBreak, release: Release) -> bool:
    """Whether some caller is in another service than the callee."""
    homes = _homes(release)
    callee = homes.get(_component(one.found))
    return callee is not None and any(homes.get(caller, callee) != callee for caller in one.callers)

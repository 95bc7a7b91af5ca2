"""Releases: which build of each service belongs together, and what would be new in another one.

A build is the content hash of its parts: definitions, files, configuration, contracts, installed packages.
Equal parts, equal build: a service whose build stays is not touched by a deploy.
"""

from collections.abc import Mapping

import msgspec

from fissile.component.contract import Break, Contracts, breaks
from fissile.orchestrator.code import ORDER, digest

REASONS_MAX = 5
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
    services: dict[str, tuple[str, ...]]
    builds: dict[str, Build]
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
    """A break, and the components and programs that call the method's component; these by their service's name."""

    callers: tuple[str, ...]
    found: Break


class Difference(msgspec.Struct, frozen=True):
    """What is new in a later release. unchanged: services that stay as they are."""

    changes: tuple[ServiceChange, ...]
    unchanged: tuple[str, ...]
    breaks: tuple[ContractBreak, ...]


def difference(earlier: Release, later: Release) -> Difference:
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
    found = [ContractBreak(_callers(earlier, one), one) for one in breaks(earlier.contracts, later.contracts)]
    # What nobody calls breaks nobody, nor what is called in the same service: both sides are of one release there.
    crossing = (one for one in found if _crosses(one, earlier) or _crosses(one, later))
    return Difference(tuple(changes), tuple(unchanged), tuple(crossing))


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


def _homes(release: Release) -> dict[str, str]:
    """The service of each component, and of each program."""
    homes = {component: service for service, members in release.services.items() for component in members}
    return {service: service for service in release.programs} | homes


def _crosses(one: ContractBreak, release: Release) -> bool:
    """Whether some caller is in another service than the callee."""
    homes = _homes(release)
    callee = homes.get(_component(one.found))
    return callee is not None and any(homes.get(caller, callee) != callee for caller in one.callers)

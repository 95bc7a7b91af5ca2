"""Which migrations a release has to run, and what waits for them: each once for a build of a service."""

from collections.abc import Collection

from fissile.names import ServiceName, SetName
from fissile.orchestrator.desired import Desired
from fissile.orchestrator.plan import waits_for
from fissile.orchestrator.replica import Observed
from fissile.orchestrator.spec import ReleaseSpec


def label(service: str, build: str) -> str:
    """What is remembered of a service's migrations, once they have been run."""
    return f"{service}@{build}"


def pending(release: ReleaseSpec, done: Collection[str]) -> dict[ServiceName, tuple[str, ...]]:
    """The components whose migrations have not been run, by service. done: labels."""
    found: dict[ServiceName, tuple[str, ...]] = {}
    for service, spec in release.services.items():
        names = tuple(name for name in spec.components if name in release.migrations)
        if names and label(service, release.builds[service]) not in done:
            found[service] = names
    return found


def held(desired: Desired, release: ReleaseSpec | None, done: Collection[str]) -> dict[ServiceName, tuple[str, ...]]:
    """The services that may not start before their migrations, with the components that have them.

    release: the current one, if it is loaded. What a rollout brings, or has replaced in place, has a stage for them.
    """
    if release is None:
        return {}
    wants = (
        (service, names, desired.sets.get(release.sets[service])) for service, names in pending(release, done).items()
    )
    return {service: names for service, names, want in wants if want is not None and want.release == release.name}


def may_run(desired: Desired, observed: Observed, name: SetName) -> bool:
    """Whether the migrations of a set that is held may begin: those serve that its replicas have to wait for.

    Those of a release that goes alter nothing under the one that comes.
    """
    if name in desired.leaving():
        return False
    want = desired.sets.get(name)
    return want is None or not waits_for(desired, want, observed.sets)

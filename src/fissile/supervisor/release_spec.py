"""What decisions have to know of a release and its settings: plain values, without a socket or a process."""

from collections.abc import Collection, Iterable, Mapping

import msgspec

from fissile.machine.limits import Limits
from fissile.names import ServiceName
from fissile.orchestrator.deploy_rules import sets_of
from fissile.orchestrator.spec import ReleaseSpec, ScalingSpec, ServiceSpec
from fissile.releases.release import Release
from fissile.settings.application import ready_before
from fissile.settings.schema import Settings


def spec_of(
    release: Release, settings: Settings, http: Collection[str] = (), limits: Mapping[str, Limits] | None = None
) -> ReleaseSpec:
    """What decisions have to know of a release with these settings.

    http: components with a door of their own. limits: of services, where they are known.
    """
    members = {str(name): components for name, components in release.services.items()}
    after = ready_before(settings, members)
    held = {name: one.memory_bytes for name, one in (limits or {}).items()}
    services = {
        name: msgspec.structs.replace(
            _service_spec(name, release, settings, http, after[name]), memory_bytes_max=held.get(name)
        )
        for name in release.services
    }
    builds = {name: build.name for name, build in release.builds.items()}
    walled = [name for name, one in settings.services.items() if one.isolate or one.user or one.limits.disk]
    return ReleaseSpec(
        name=release.name,
        services=services,
        sets=sets_of(builds, services),
        references=release.references,
        contracts=release.contracts,
        topology=release.topology,
        builds=builds,
        unheld=tuple(ServiceName(name) for name in walled if name not in services),
    )


def _service_spec(
    name: ServiceName, release: Release, settings: Settings, http: Collection[str], after: Iterable[str]
) -> ServiceSpec:
    own, components = settings.service(name), release.services[name]
    scale = own.scale
    called = [target for one in components for target in release.references[one]]
    return ServiceSpec(
        components=components,
        calls=(*called, *own.calls),
        doors=(name,) if own.guest else tuple(one for one in components if one in http),
        program=bool(own.command),
        places=0 if own.foreign else own.concurrency,
        scaling=ScalingSpec(scale.target, scale.weight, scale.idle_seconds, scale.min, scale.max) if scale else None,
        replicas=own.replicas,
        replicas_most=own.replicas_most,
        after=tuple(map(ServiceName, after)),
        port=own.port,
        ports=own.ports,
        allow_overlap=own.overlap,
        start_seconds=own.start_seconds,
        drain_seconds=own.drain_seconds,
        stuck_seconds=own.stuck_seconds,
    )

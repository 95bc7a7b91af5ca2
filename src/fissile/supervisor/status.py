"""What runs now, as it is shown to people and programs."""

import os

import msgspec

from fissile.orchestrator.replica import Replica
from fissile.supervisor.fleet import NO_LIMITS, Fleet
from fissile.supervisor.limits import LimitStatus, resident_bytes
from fissile.supervisor.service import Service


class ReplicaStatus(msgspec.Struct, frozen=True):
    """One replica. state: starting, ready, draining. lag_seconds, in_flight: by its last heartbeat."""

    slot: int
    serial: int
    pid: int
    state: str
    build: str
    revision: int
    lag_seconds: float = 0.0
    in_flight: float = 0.0
    memory_bytes: int | None = None
    stuck: str = ""


class Scale(msgspec.Struct, frozen=True):
    """How many replicas are wanted, and between which bounds that may be altered by itself."""

    wanted: int
    min: int
    max: int


class ServiceStatus(msgspec.Struct, frozen=True):
    """One service.

    topology: the grouping of the application that it belongs to. limits: what each replica may use, and
    `enforced_by`. restarts: how often a replica was replaced because it died. trouble: the last death, while
    it matters.
    """

    name: str
    topology: str
    components: tuple[str, ...]
    scale: Scale
    limits: LimitStatus
    replicas: tuple[ReplicaStatus, ...]
    restarts: int
    trouble: str = ""


class SupervisorProcess(msgspec.Struct, frozen=True):
    """zygote: its pid, or None while there is none."""

    pid: int
    zygote: int | None


class SupervisorStatus(msgspec.Struct, frozen=True):
    """What runs now. journal: what is wrong with it, or ""."""

    supervisor: SupervisorProcess
    application: str
    topology: str
    release: str
    services: tuple[ServiceStatus, ...]
    journal: str = ""


def status_of(fleet: Fleet, *, zygote: int | None, journal: str) -> SupervisorStatus:
    """The status of a fleet. journal: what is wrong with it, or ""."""
    return SupervisorStatus(
        supervisor=SupervisorProcess(os.getpid(), zygote),
        application=fleet.loaded.name if fleet.loaded is not None else "",
        topology=fleet.topology,
        release=fleet.release,
        services=tuple(_service_status(fleet, service) for service in fleet.services.values()),
        journal=journal,
    )


def _service_status(fleet: Fleet, service: Service) -> ServiceStatus:
    want, found = fleet.desired.services[service.name], fleet.observed.service(service.name)
    settings = fleet.settings.service(service.name)
    broken = [memory.reason for memory in found.slots.values() if memory.reason]
    return ServiceStatus(
        name=service.name,
        topology=fleet.topology,
        components=service.components,
        scale=Scale(want.replicas, want.replicas_min, want.replicas_max),
        limits={
            "concurrency": settings.concurrency,
            **fleet.limits.get(service.name, NO_LIMITS).shown(),
            "enforced_by": _enforced_by(fleet, service.name),
        },
        replicas=tuple(_replica_status(fleet, replica) for replica in found.replicas.values()),
        restarts=found.restarts,
        trouble=broken[0] if broken else "",
    )


def _enforced_by(fleet: Fleet, service: str) -> str | None:
    limits = fleet.limits.get(service, NO_LIMITS)
    missing = f" ({fleet.enforcement.missing})" if fleet.enforcement.missing else ""
    by = [f"{fleet.enforcement.name}{missing}"] if limits.grouped else []
    by += ["rlimits"] if limits.files is not None else []
    by += ["Landlock"] if limits.disk is not None else []
    return ", ".join(by) or None


def _replica_status(fleet: Fleet, replica: Replica) -> ReplicaStatus:
    process = fleet.processes.get(replica.serial)
    beat = process.link.heartbeat if process is not None else None
    return ReplicaStatus(
        slot=replica.slot,
        serial=replica.serial,
        pid=replica.pid,
        state=replica.state.value,
        build=replica.build,
        revision=replica.revision,
        lag_seconds=beat.lag_seconds if beat is not None else 0.0,
        in_flight=replica.load,
        memory_bytes=resident_bytes(replica.pid) if replica.pid else None,
        stuck=replica.stuck,
    )

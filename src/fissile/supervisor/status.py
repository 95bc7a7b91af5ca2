"""What runs now, as it is shown to people and programs."""

import os
import time
from collections.abc import Iterable

import msgspec

from fissile.machine.confine import machine
from fissile.machine.limits import Limits, LimitStatus, resident_bytes
from fissile.machine.walls import NONE, standing
from fissile.names import ServiceName
from fissile.orchestrator.desired import DesiredSet
from fissile.orchestrator.plan import awaits
from fissile.orchestrator.replica import Replica
from fissile.runtime.control import WireDifference
from fissile.supervisor.loaded_release import NO_LIMITS
from fissile.supervisor.state import SupervisorState


class ReplicaStatus(msgspec.Struct, frozen=True):
    """One replica. state: starting, ready, draining. lag_seconds, in_flight: by its last heartbeat; None
    before the first one, and of a program, which sends none.

    stuck: what is wrong with it, or ""; stuck_kind: the kind of that, for programs.
    pid: None while it has no process so far. age_seconds: of that process, None where that is not known. listener: who
    answers at a program's port, where it cannot be seen that it is the program itself.
    """

    slot: int
    serial: int
    pid: int | None
    state: str
    build: str
    revision: int
    lag_seconds: float | None = None
    in_flight: float | None = None
    memory_bytes: int | None = None
    stuck: str = ""
    stuck_kind: str = ""
    listener: str = ""
    age_seconds: float | None = None


class Scale(msgspec.Struct, frozen=True):
    """How many replicas are wanted, and between which bounds that may be altered by itself.

    zero_by: who has scaled it to zero, until somebody scales it again; "".
    """

    wanted: int
    min: int
    max: int
    zero_by: str = ""


class ServiceStatus(msgspec.Struct, frozen=True):
    """One service.

    topology: the grouping of the application that it belongs to. limits: what each replica may use, and
    `enforced_by`. restarts: how often a replica was replaced because it died. trouble: the last death, while
    it matters; trouble_kind: the kind of that, for programs. last_lines: what that process had printed, where it never
    was ready. wire_differences: what its calls within a process would mean otherwise across a wire. waits: services
    that have to serve before it is started.
    isolation: none, confined or user, see docs/reference/isolation.md; walls: those that stand around it;
    walls_missing: those that this machine cannot raise, and why.
    """

    name: str
    topology: str
    components: tuple[str, ...]
    scale: Scale
    limits: LimitStatus
    replicas: tuple[ReplicaStatus, ...]
    restarts: int
    trouble: str = ""
    trouble_kind: str = ""
    last_lines: tuple[str, ...] = ()
    wire_differences: tuple[WireDifference, ...] = ()
    waits: tuple[str, ...] = ()
    isolation: str = NONE
    walls: tuple[str, ...] = ()
    walls_missing: dict[str, str] = {}


class SupervisorProcess(msgspec.Struct, frozen=True):
    """zygote: its pid, or None while there is none. trouble: what is wrong with a zygote, or ""."""

    pid: int
    zygote: int | None
    trouble: str = ""


class RolloutStatus(msgspec.Struct, frozen=True):
    """A rollout under way.

    share: of new requests that the later release gets. waits: for what, if anything; waits_kind: the same for programs.
    """

    number: int
    earlier: str
    later: str
    topology: str
    stage: str
    share: float
    reason: str
    waits: str = ""
    waits_kind: str = ""


class RestartOrder(msgspec.Struct, frozen=True):
    """A restart that somebody has asked for. service: "" for all. waiting: for those before it, one at a time."""

    service: str
    who: str
    waiting: bool


class SupervisorStatus(msgspec.Struct, frozen=True):
    """What runs now. release: that which gets most of the requests. journal: what is wrong with it, or "".

    preparing: what is done for a release before its rollout begins, as "importing shop:app"; "": nothing. restarts:
    those that were asked for and are not over; one is under way, the others wait for it.
    """

    supervisor: SupervisorProcess
    application: str
    topology: str
    release: str
    services: tuple[ServiceStatus, ...]
    journal: str = ""
    rollout: RolloutStatus | None = None
    preparing: str = ""
    restarts: tuple[RestartOrder, ...] = ()


def status_of(
    state: SupervisorState,
    *,
    journal: str,
    waits: str,
    waits_kind: str = "",
    zygote: str = "",
    preparing: str = "",
    restarts: tuple[RestartOrder, ...] = (),
) -> SupervisorStatus:
    """What runs now. journal, zygote: what is wrong with them, or "". waits: what the rollout waits for."""
    loaded = state.releases.current
    return SupervisorStatus(
        supervisor=SupervisorProcess(os.getpid(), loaded.zygote.pid if loaded is not None else None, zygote),
        application=loaded.imported.name if loaded is not None else "",
        topology=state.releases.topology,
        release=state.releases.current_name,
        services=tuple(_service_status(state, name) for name in state.sets.services() if state.sets.has_service(name)),
        journal=journal,
        rollout=_rollout_status(state, waits, waits_kind),
        preparing=preparing,
        restarts=restarts,
    )


def _rollout_status(state: SupervisorState, waits: str, waits_kind: str) -> RolloutStatus | None:
    desired = state.desired
    rollout = desired.rollout
    if rollout is None:
        return None
    return RolloutStatus(
        number=rollout.number,
        earlier=desired.current.name,
        later=rollout.later.name,
        topology=state.releases.by_name[rollout.later.name].release.topology,
        stage=rollout.stage.value,
        share=desired.shares()[rollout.later.name],
        reason=rollout.reason,
        waits=waits,
        waits_kind=waits_kind,
    )


def _service_status(state: SupervisorState, name: ServiceName) -> ServiceStatus:
    """Of all its replica sets; in the words of the one that most requests go to."""
    main = state.sets.service(state.desired.set_of(name))
    want = state.desired.sets.get(main.set, DesiredSet(0, 0, 0))
    sets = [s.set for s in state.sets.live().values() if s.name == name]
    found = [state.observed.replica_set(one) for one in sets]
    loaded = state.releases.by_name[want.release] if want.release else state.releases.current
    assert loaded is not None
    limits = loaded.limits.get(name, NO_LIMITS)
    user = limits.user.name if limits.user is not None else ""
    around = standing(machine(), confined=limits.disk is not None, user=user)
    broken = [memory.reason for one in found for memory in one.slots.values() if memory.reason is not None]
    return ServiceStatus(
        name=name,
        topology=loaded.release.topology,
        components=main.components,
        scale=Scale(want.replicas, want.replicas_min, want.replicas_max, want.zero_by),
        limits={
            # A program is called by nobody who counts.
            "concurrency": None if main.settings.command else main.settings.concurrency,
            **limits.shown(),
            "enforced_by": _enforced_by(state, limits),
        },
        replicas=tuple(_replica_status(state, replica) for one in found for replica in one.replicas.values()),
        restarts=sum(one.restarts for one in found),
        trouble=str(broken[0]) if broken else "",
        trouble_kind=broken[0].cause.kind if broken else "",
        last_lines=next((lines for one in sets if broken and (lines := state.output.of_set(one, str(broken[0])))), ()),
        wire_differences=tuple(_differences(state, name)),
        waits=tuple(dict.fromkeys(other for one in sets for other in awaits(state.desired, state.observed, one))),
        isolation=around.level,
        walls=around.walls,
        walls_missing=around.missing,
    )


def _differences(state: SupervisorState, name: ServiceName) -> Iterable[WireDifference]:
    """Of a service's builds that are live."""
    releases = [state.releases.by_name[release.name] for release in state.desired.releases() if name in release.sets]
    builds = dict.fromkeys(loaded.release.builds[name].name for loaded in releases)
    return dict.fromkeys(one for build in builds for one in state.differences.of(name, build))


def _enforced_by(state: SupervisorState, limits: Limits) -> str | None:
    missing = f" ({state.limits.enforcement.missing})" if state.limits.enforcement.missing else ""
    by = [f"{state.limits.enforcement.name}{missing}"] if limits.grouped else []
    by += ["rlimits"] if limits.files is not None else []
    by += ["Landlock"] if limits.disk is not None else []
    return ", ".join(by) or None


def _replica_status(state: SupervisorState, replica: Replica) -> ReplicaStatus:
    process = state.processes.by_serial.get(replica.serial)
    return ReplicaStatus(
        slot=replica.slot,
        serial=replica.serial,
        pid=replica.pid or None,
        state=replica.state.value,
        build=replica.build,
        revision=replica.revision,
        lag_seconds=replica.report.lag_seconds if replica.report is not None else None,
        in_flight=replica.load if replica.report is not None else None,
        memory_bytes=resident_bytes(replica.pid) if replica.pid else None,
        stuck=str(replica.stuck or ""),
        stuck_kind=replica.stuck.cause.kind if replica.stuck is not None else "",
        listener=state.processes.port_holders.get(replica.serial, ""),
        age_seconds=_age(process.born) if process is not None else None,
    )


def _age(born: int | None) -> float | None:
    """Seconds since a process began. born: clock ticks since the machine did (proc_pid_stat(5))."""
    if born is None:
        return None
    return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - born / os.sysconf("SC_CLK_TCK"))

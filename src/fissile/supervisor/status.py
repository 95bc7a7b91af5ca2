"""What runs now, as it is shown to people and programs."""

import msgspec


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
    limits: dict[str, str | int | float | None]
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

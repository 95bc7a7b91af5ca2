"""What fissile.toml may say, and the defaults: a table for each concern."""

import re
from typing import Annotated, Any, Literal

import msgspec

from fissile.rpc.server import DEFAULT_CONCURRENCY, DEFAULT_QUEUE

FILE_NAME = "fissile.toml"
REPLICAS_MAX = 1000
FOREIGN = ("command", "asgi", "wsgi")
# Variables of Fissile: its own, and those that set fields of components.
OURS = "FISSILE_"
SERVICE_NAME = re.compile(r"[a-z][a-z0-9_-]{0,39}")  # also a file's name, and what `ps` shows
Seconds = Annotated[float, msgspec.Meta(gt=0)]
Count = Annotated[int, msgspec.Meta(ge=1)]
Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]


class CallSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[calls]: timeout_seconds is the deadline of methods that name none."""

    timeout_seconds: Seconds = 10.0


class MachineSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[machine]: cores that automatic scaling may fill (0: all there are); port of the supervisor's API (0: any)."""

    cores: Annotated[int, msgspec.Meta(ge=0)] = 0
    api_port: Port = 0


class ReleaseSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[releases]: how many are kept with their code for a rollback, beside those that serve."""

    keep: Annotated[int, msgspec.Meta(ge=1)] = 10


class ScaleSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[services.NAME.scale]: how many replicas automatic scaling may choose, and by what.

    target: calls in flight and waiting that one replica is meant for. weight: its share of the machine's
    cores when there are too few. idle_seconds: with min = 0, how long nothing happens before it sleeps.
    """

    min: Annotated[int, msgspec.Meta(ge=0, le=REPLICAS_MAX)] = 1
    max: Annotated[int, msgspec.Meta(ge=1, le=REPLICAS_MAX)] = 1
    target: Annotated[float, msgspec.Meta(gt=0)] = 10.0
    weight: Annotated[float, msgspec.Meta(gt=0)] = 1.0
    idle_seconds: Seconds = 60.0


class LimitSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[services.NAME.limits]: what each replica may use.

    memory: as "256M". cpu: cores. files, processes: counts. disk: the folders that it may write to, from
    fissile.toml on; without it, all that its user may.
    """

    memory: str | int | None = None
    cpu: Annotated[float, msgspec.Meta(gt=0)] | None = None
    files: Count | None = None
    processes: Count | None = None
    disk: tuple[str, ...] | None = None


class ServiceSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[services.NAME].

    replicas; calls at once (concurrency) and waiting (queue) in each; gateway port (0: any). command: run
    this program instead of Python components; asgi, wsgi: or this "module:attribute" that knows nothing of
    Fissile. folder: where it runs, from fissile.toml on. code: patterns as in .gitignore, of the files that are its
    code; None: what git tracks, else what is not ignored. environment: of it alone. ready: a path that
    answers 200 when it serves, or "tcp". ports: a port for "each" replica, or one that all inherit
    ("inherited", by LISTEN_FDS) or bind together ("reuseport"). calls: components that a program may call.
    after: services that are to be ready before it starts. overlap: whether a restart may run the new
    program beside the old one; not by default where `port` is fixed.
    stop_signal: by which a program ends in order. isolate: confine it (docs/reference/isolation.md), as `limits.disk`
    does too. user: run it, confined, as this user; only root can. The seconds are limits: until ready; for finishing
    what is in flight; for having all places held by calls whose time is up.
    """

    replicas: Annotated[int, msgspec.Meta(ge=1, le=REPLICAS_MAX)] = 1
    concurrency: Count = DEFAULT_CONCURRENCY
    queue: Annotated[int, msgspec.Meta(ge=0)] = DEFAULT_QUEUE
    port: Port = 0
    scale: ScaleSettings | None = None
    limits: LimitSettings = LimitSettings()
    spawn: bool = False
    command: str = ""
    asgi: str = ""
    wsgi: str = ""
    folder: str = "."
    code: tuple[str, ...] | None = None
    environment: dict[str, str] = {}
    ready: str = ""
    ports: Literal["each", "inherited", "reuseport"] = "each"
    calls: list[str] = []
    after: list[str] = []
    overlap: bool | None = None
    isolate: bool = False
    user: str = ""
    stop_signal: Literal["TERM", "INT", "QUIT", "HUP"] = "TERM"
    start_seconds: Seconds = 30.0
    drain_seconds: Seconds = 10.0
    stuck_seconds: Seconds = 30.0

    @property
    def guest(self) -> str:
        """ "asgi" or "wsgi" where it is an application that knows nothing of Fissile, else ""."""
        return "asgi" if self.asgi else "wsgi" if self.wsgi else ""

    @property
    def replicas_most(self) -> int:
        """How many there may be: one where a program has a fixed port that it shares with nobody."""
        return 1 if self.command and self.port and self.ports == "each" else REPLICAS_MAX

    @property
    def foreign(self) -> bool:
        """Whether it is something else than Python components."""
        return bool(self.command or self.asgi or self.wsgi)


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What fissile.toml says, with a profile and the environment applied.

    app: "" where there are only services in other technologies. root: its folder; named: the same as it was named,
    which may be a link that is switched one day. file, profile: what was read ("": neither). profiles: the same with
    each of the other profiles instead, so that their mistakes are told, too.
    """

    app: str = ""
    root: str = ""
    named: str = ""
    file: str = ""
    profile: str = ""
    topology: str = "monolith"
    calls: CallSettings = CallSettings()
    machine: MachineSettings = MachineSettings()
    releases: ReleaseSettings = ReleaseSettings()
    topologies: dict[str, dict[str, list[str]]] = {}
    services: dict[str, ServiceSettings] = {}
    components: dict[str, dict[str, Any]] = {}
    profiles: dict[str, "Settings"] = {}

    def service(self, name: str) -> ServiceSettings:
        """The settings of a service, or the defaults."""
        return self.services.get(name, ServiceSettings())

    @property
    def lone_guest(self) -> ServiceSettings | None:
        """The asgi or wsgi service that is all there is: it is imported by the zygote, in its own environment."""
        services = list(self.services.values())
        return services[0] if not self.app and len(services) == 1 and services[0].guest else None

    def may_import_ahead(self, name: str) -> bool:
        """Whether a zygote may import for the next replicas of a service what its first one imported.

        Not where the import could miss the service's own variables, nor where replicas import everything themselves.
        """
        service = self.service(name)
        return not service.spawn and (not service.environment or self.lone_guest is not None)

    def differs(self, other: "Settings") -> bool:
        """Whether another copy of the code has other settings; where each copy lies makes no difference."""
        return msgspec.structs.replace(self, root=other.root) != other

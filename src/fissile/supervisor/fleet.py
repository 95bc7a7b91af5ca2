"""All that is known of one application while it is supervised: what decides nothing and does nothing.

The rooms of the supervisor share it: the loop alters it, the launcher, the doors and the status read it.
Everything is kept by replica set; a service has one, or two while a rollout replaces its build.
"""

import os
import signal
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path

import msgspec

from fissile.errors import ConfigError
from fissile.machine.lastlines import told
from fissile.machine.limits import Enforcement, Limits, detect, limits_of
from fissile.machine.probe import TCP
from fissile.machine.sockets import HOST, url
from fissile.machine.zygote.client import ProcessHandle, ZygoteClient
from fissile.machine.zygote.protocol import Loaded
from fissile.names import ServiceName, SetName
from fissile.orchestrator.deploy_rules import live_release, sets_of
from fissile.orchestrator.desired import Desired, LiveRelease
from fissile.orchestrator.replica import Observed, Replica
from fissile.orchestrator.routing import Target, Told
from fissile.orchestrator.spec import ReleaseSpec, ScalingSpec, ServiceSpec
from fissile.orchestrator.state import ApplicationState
from fissile.releases.release import Release
from fissile.rpc.access import Access, token_digest
from fissile.runtime.control import OPERATOR, Callee, Elsewhere, Routes
from fissile.settings.application import ready_before
from fissile.settings.schema import FILE_NAME, Settings
from fissile.supervisor.callers import Callers
from fissile.supervisor.control_server import ReplicaSession
from fissile.supervisor.differences import Differences
from fissile.supervisor.service import Secrets, Service
from fissile.supervisor.state import STACKS, StateFolder

CONTROL_SOCKET = "supervisor"
HANDOVER = "edge"
NO_LIMITS = Limits()
STACKS_BYTES_MAX = 20_000


class Process(msgspec.Struct, frozen=True, eq=False):
    """What stands behind a replica: its process and when that began (see orphans), and its reports.

    parent: whose child it was at first; 0: nobody knows. root: the folder of the code that it runs, and reads from as
    long as it lives.
    """

    child: ProcessHandle
    session: ReplicaSession
    born: int | None
    parent: int
    root: str


class Edition:
    """A release as it is loaded here. settings: with the folder of its code. zygote: the one that has imported
    it last.

    sets: by replica set; filled when their doors are opened.
    """

    def __init__(self, loaded: Loaded, settings: Settings, zygote: ZygoteClient, limits: dict[str, Limits]) -> None:
        self.loaded = loaded
        self.settings = settings
        self.zygote = zygote
        self.limits = limits
        self.sets: dict[SetName, Service] = {}
        self.service_of = {name: service for service, names in loaded.services.items() for name in names}

    @property
    def release(self) -> Release:
        """Its builds and contracts."""
        return self.loaded.release

    @cached_property
    def spec(self) -> ReleaseSpec:
        """What decisions have to know of it."""
        loaded = self.loaded
        # What is kept of a release, and not imported just now, is not believed: it says who may call whom.
        release = msgspec.structs.replace(self.release, services=loaded.services, references=loaded.references)
        found = spec_of(release, self.settings, loaded.http, self.limits)
        return msgspec.structs.replace(
            found, keeps=loaded.keeps, warnings=loaded.warnings, migrations=frozenset(loaded.migrations)
        )

    def live(self) -> LiveRelease:
        """As it is desired."""
        return live_release(self.spec)


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


class LoadedSpecs(Mapping[str, ReleaseSpec]):
    """What decisions have to know of the releases whose listening sockets are open, by name."""

    def __init__(self, editions: Mapping[str, Edition]) -> None:
        self._editions = editions

    def __getitem__(self, name: str) -> ReleaseSpec:
        edition = self._editions[name]
        if not edition.sets:
            raise KeyError(name)
        return edition.spec

    def __iter__(self) -> Iterator[str]:
        return (name for name, edition in self._editions.items() if edition.sets)

    def __len__(self) -> int:
        return sum(1 for _ in self)


class Fleet:
    """One application's services, replicas and secrets.

    All but editions and secrets is by replica set. routed: addresses, as replicas know them. sent: what each set was
    told.
    listeners: what there is to say of who answers at a program's port, by serial, where that is not itself.
    zygotes: those that fork, by name.
    last_lines: what those printed that did not come up, by replica set and slot.
    strays: births of replicas that serve on, though nobody can adopt them any more (see orphans).
    """

    def __init__(self, settings: Settings, topology: str, state: StateFolder) -> None:
        self.root = Path(settings.root)
        self.named = Path(settings.named or settings.root)
        self.state = state
        self.editions: dict[str, Edition] = {}
        self.zygotes: dict[str, ZygoteClient] = {}
        self.app = ApplicationState(LoadedSpecs(self.editions), time.time_ns())
        self.processes: dict[int, Process] = {}
        self.secrets = Secrets.new()
        self.enforcement = Enforcement()
        self.differences = Differences()
        self.outside = Callers()
        self.listeners: dict[int, str] = {}
        self.last_lines: dict[tuple[SetName, int], tuple[str, ...]] = {}
        self._detected = False
        self._settings = settings
        self._topology = topology

    @property
    def desired(self) -> Desired:
        """How all replica sets should be."""
        return self.app.desired

    @property
    def observed(self) -> Observed:
        """All that is known of the replicas."""
        return self.app.observed

    # -- releases -----------------------------------------------------------------------------------

    @property
    def edition(self) -> Edition | None:
        """The release that new requests get, or most of them; None before anything is loaded."""
        return self.editions.get(self.desired.main())

    @property
    def settings(self) -> Settings:
        """Of that release; before there is one, those that the supervisor was given."""
        edition = self.edition
        return edition.settings if edition is not None else self._settings

    @property
    def topology(self) -> str:
        """Of that release."""
        edition = self.edition
        return edition.release.topology if edition is not None else self._topology

    @topology.setter
    def topology(self, name: str) -> None:
        self._topology = name

    @property
    def release(self) -> str:
        """Its name."""
        edition = self.edition
        return edition.release.name if edition is not None else ""

    def edition_of(self, name: SetName) -> Edition:
        """The release of whose code and settings a replica set is made."""
        return self.editions[self.desired.sets[name].release]

    def zygote_of(self, name: SetName) -> ZygoteClient:
        """By whom a replica set's replicas are made."""
        want = self.desired.sets[name]
        return self.zygotes.get(want.zygote) or self.editions[want.release].zygote

    def known(self, service: ServiceName) -> bool:
        """Whether a live release has this service."""
        return any(service in release.sets for release in self.desired.releases())

    def names(self) -> tuple[ServiceName, ...]:
        """All services, in the order in which they were made."""
        return tuple(dict.fromkeys(service.name for service in self.sets.values()))

    def roots(self) -> set[str]:
        """The folders of code that are needed: those of loaded releases, and those that processes came from."""
        loaded = {edition.settings.root for edition in self.editions.values()}
        loaded |= {zygote.root for zygote in self.zygotes.values()}
        return loaded | {process.root for process in self.processes.values()}

    def methods(self) -> set[str]:
        """All that can be called now, as "Component.method"."""
        live = (self.editions.get(release.name) for release in self.desired.releases())
        return {label for edition in live if edition is not None for label in edition.release.contracts}

    # -- services -----------------------------------------------------------------------------------

    @property
    def sets(self) -> dict[SetName, Service]:
        """Of all live releases, by replica set."""
        sets = [name for release in self.desired.releases() for name in self.made(release.name)]
        return {name: self.service(name) for name in sets}

    def service(self, name: SetName) -> Service:
        """What a replica set is made of. Raises KeyError.

        One that cannot be there twice is the same set in each release; it is made of the one that is wanted now.
        """
        want = self.desired.sets.get(name)
        for release in (want.release if want is not None else "", *(one.name for one in self.desired.releases())):
            found = self.made(release).get(name)
            if found is not None:
                return found
        raise KeyError(name)

    def service_at(self, name: SetName, build: str) -> Service:
        """The same, as a replica of this build is made of it: it may have been started before. Raises KeyError."""
        service = self.service(name)
        for edition in self.editions.values():
            made = edition.release.builds.get(service.name)
            if made is not None and made.name == build and name in edition.sets:
                return edition.sets[name]
        return service

    def made(self, release: str) -> dict[SetName, Service]:
        """What a release describes, by replica set; nothing where it is not loaded."""
        return self.editions[release].sets if release in self.editions else {}

    def command(self, name: SetName) -> bool:
        """Whether a set's replicas are programs that know nothing of us."""
        return bool(self.service(name).settings.command)

    def programs(self) -> set[SetName]:
        """The live sets of which that is so."""
        return {name for name, service in self.sets.items() if service.settings.command}

    def lines_of(self, name: SetName, trouble: str) -> tuple[str, ...]:
        """What a process of a replica set printed last that did not come up, beside its trouble."""
        found = [lines for (set_name, _), lines in self.last_lines.items() if set_name == name and lines]
        return told(found[-1], trouble) if found else ()

    def forget_lines(self, name: SetName) -> None:
        """Of a set that is no more."""
        for key in [key for key in self.last_lines if key[0] == name]:
            del self.last_lines[key]

    def how_ready(self, name: SetName) -> str:
        """How it is seen that a set's program serves, as "answers at /health"; "" where replicas say so themselves."""
        if name not in self.sets or not self.command(name):
            return ""
        ready = self.service(name).ready()
        return f"listens at port {self.port_of(name)}" if ready == TCP else f"answers at {ready}"

    def limits_for(self, settings: Settings, root: Path | None = None) -> dict[str, Limits]:
        """By service. Raises ConfigError where they do not fit this machine.

        Where services run as other users, these are let in to what they need of the state folder.
        """
        state = str(self.state.path.resolve())
        found: dict[str, Limits] = {}
        mistakes: list[ConfigError] = []
        for name, one in settings.services.items():
            try:
                found[name] = limits_of(
                    name, one.limits, str(root or self.root), isolate=one.isolate, user=one.user, state=state
                )
            except ConfigError as error:
                mistakes.append(error)
        if mistakes:
            raise ConfigError("\n".join(error.message for error in mistakes), remedy=mistakes[0].remedy)
        if any(limits.user is not None for limits in found.values()):
            self._let_in(settings)
        elif os.geteuid() == 0 and any(one.command for one in settings.services.values()):
            self._let_through(settings)
        if any(limits.grouped for limits in found.values()) and not self._detected:
            self._detected = True
            self.enforcement = detect(token_digest(str(self.state.path.resolve()))[:12])
        return found

    def _let_in(self, settings: Settings) -> None:
        code = Path(settings.root).resolve()
        self.state.share()
        if code.is_relative_to(self.state.path.resolve()):
            self.state.share_copy(code, but=(FILE_NAME, settings.file))

    def _let_through(self, settings: Settings) -> None:
        """A program that root starts may become another user, as PostgreSQL has to: it reads what it could before."""
        code = Path(settings.root).resolve()
        if code.is_relative_to(self.state.path.resolve()):
            self.state.share_copy(code, but=(FILE_NAME, settings.file), like=self.root)

    def port_of(self, name: SetName, slot: int = 0) -> int:
        """Where the program in a slot is called: the newest that is ready, or else the newest."""
        newest = self.observed.replica_set(name).newest(slot)
        return self.service(name).port(newest.serial if newest is not None else 0)

    def limits_of(self, replica: Replica) -> Limits:
        """What a replica may use."""
        service = self.service(replica.set)
        return self.edition_of(replica.set).limits.get(service.name, NO_LIMITS)

    def replica(self, serial: int) -> Replica | None:
        """A replica by its serial, if it is not gone."""
        for service in self.observed.sets.values():
            if serial in service.replicas:
                return service.replicas[serial]
        return None

    def stop_signal(self, replica: Replica) -> signal.Signals:
        """By which a program ends in order."""
        return signal.Signals[f"SIG{self.service_at(replica.set, replica.build).settings.stop_signal}"]

    def gateway(self, service: Service) -> str:
        """The HTTP/JSON address of a service, "" if it has none."""
        if service.gateway is not None:
            return url(service.gateway)
        return "" if not service.components else f"http://{HOST}:{self.port_of(service.set)}"

    def public(self, service: Service) -> dict[str, str]:
        """Where people and other programs reach a service, by component or by its own name."""
        if service.settings.command and not service.components and not service.public:
            return {service.name: f"{HOST}:{self.port_of(service.set)}"}
        return {component: url(sock) for component, sock in service.public.items()}

    def stacks(self, replica: Replica) -> Path:
        """The file in which a stuck replica writes where it stands."""
        return self.state.path / f"{replica.key}{STACKS}"

    def read_stacks(self, replica: Replica) -> str:
        """Where a stuck replica stood; "" if it has not said."""
        try:
            # Its end alone: the replica, which may be in wrong hands, writes as much as it likes.
            with self.stacks(replica).open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - STACKS_BYTES_MAX))
                return file.read(STACKS_BYTES_MAX).decode(errors="replace")
        except OSError:
            return ""

    # -- routes -------------------------------------------------------------------------------------

    def rendered(self, told: Told) -> Routes:
        """Routes as replicas are told them: with addresses and tokens in place of names."""
        found, callers = told.routes, told.routes.callers
        peers = {token_digest(self.secrets.operator): OPERATOR}
        peers |= {token_digest(self.secrets.services[one]): one for one in callers.services if one != OPERATOR}
        members = {str(name): components for name, components in callers.services.items()}
        return Routes(
            version=told.version,
            release=found.release,
            releases=found.releases,
            callees={
                other: Callee(
                    callee.service,
                    self.addresses(other, callee.targets),
                    self.secrets.services[callee.service] if callee.program else "",
                    callee.away,
                )
                for other, callee in found.callees.items()
            },
            ways={release: dict[str, str](way) for release, way in found.ways.items()},
            shares=found.shares,
            elsewhere={
                door: Elsewhere(route.share, tuple(map(self.handover, route.serials)))
                for door, route in found.elsewhere.items()
            },
            sticky=found.sticky,
            rollout=found.rollout,
            access=Access(peers, members, callers.references, callers.understood),
            gateway_peers=tuple(sorted(token_digest(self.secrets.services[one]) for one in callers.programs)),
        )

    def addresses(self, name: SetName, targets: tuple[Target, ...]) -> tuple[str, ...]:
        """Where the replicas of a set are called."""
        if self.command(name):
            return tuple(f"http://{HOST}:{self.service(name).port(one.serial)}" for one in targets)
        return tuple(f"unix:{self.state.socket_path(f'{name}.{one.slot}')}" for one in targets)

    def handover(self, serial: int) -> str:
        """Where a replica takes connections that another accepted."""
        return self.state.socket_path(f"{HANDOVER}-{serial}")

    def handovers(self) -> dict[int, Path]:
        """The sockets of `handover` that are in the folder, by serial: of whoever made them."""
        found = {path.stem.removeprefix(f"{HANDOVER}-"): path for path in self.state.sockets.glob(f"{HANDOVER}-*.sock")}
        return {int(serial): path for serial, path in found.items() if serial.isdecimal()}

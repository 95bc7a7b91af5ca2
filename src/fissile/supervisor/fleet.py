"""All that is known of one application while it is supervised: what decides nothing and does nothing.

The rooms of the supervisor share it: the loop alters it, the launcher, the doors and the status read it.
Everything is kept by replica set; a service has one, or two while a rollout replaces its build.
"""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from fissile.component.contract import accepted
from fissile.errors import ConfigError
from fissile.orchestrator.desired import Desired, LiveRelease, Stage, service_of, set_name
from fissile.orchestrator.order import stop_waves
from fissile.orchestrator.plan import waits_for
from fissile.orchestrator.release import Release
from fissile.orchestrator.replica import READY, STARTING, Observed, Replica
from fissile.orchestrator.routes import RouteTable
from fissile.orchestrator.routes import routes as routed_slots
from fissile.rpc.access import Access, token_digest
from fissile.runtime.control import OPERATOR, Callee, Elsewhere, Routes
from fissile.runtime.edge import GATEWAY_DOOR
from fissile.runtime.settings import FILE_NAME, ServiceSettings, Settings
from fissile.supervisor.callers import Callers
from fissile.supervisor.desk import Link
from fissile.supervisor.differences import Differences
from fissile.supervisor.lastlines import told
from fissile.supervisor.limits import Enforcement, Limits, detect, limits_of
from fissile.supervisor.messages import Loaded
from fissile.supervisor.nursery import Child, Nursery
from fissile.supervisor.probe import TCP
from fissile.supervisor.service import Secrets, Service
from fissile.supervisor.sockets import HOST, url
from fissile.supervisor.state import STACKS, StateFolder

CONTROL_SOCKET = "supervisor"
HANDOVER = "edge"
NO_LIMITS = Limits()
STACKS_BYTES_MAX = 20_000


class Door(NamedTuple):
    """Where clients from outside come in. service: of HTTP/JSON, whose door it is; others have names of their own."""

    name: str
    service: str = ""


def doors_of(service: Service) -> tuple[Door, ...]:
    """The doors that a service's replicas serve by themselves."""
    return (Door(GATEWAY_DOOR, service.name), *map(Door, service.doors()))


class Process(msgspec.Struct, frozen=True, eq=False):
    """What stands behind a replica: its process and when that began (see orphans), and its reports.

    parent: whose child it was at first; 0: nobody knows. root: the folder of the code that it runs, and reads from as
    long as it lives.
    """

    child: Child
    link: Link
    born: int | None
    parent: int
    root: str


class Edition:
    """A release as it is loaded here. settings: with the folder of its code. nursery: of the zygote that has imported
    it last.

    services: by replica set; filled when their doors are opened.
    """

    def __init__(self, loaded: Loaded, settings: Settings, nursery: Nursery, limits: dict[str, Limits]) -> None:
        self.loaded = loaded
        self.settings = settings
        self.nursery = nursery
        self.limits = limits
        self.services: dict[str, Service] = {}
        self.service_of = {name: service for service, names in loaded.services.items() for name in names}
        self._understood: dict[str, dict[str, frozenset[str]]] = {}

    @property
    def release(self) -> Release:
        """Its builds and contracts."""
        return self.loaded.release

    def warnings(self) -> tuple[str, ...]:
        """What people should know of it, though it is no mistake: what its import leaves, and walls around nobody."""
        held = self.settings.services.items()
        unheld = [
            name
            for name, one in held
            if name not in self.loaded.services and (one.isolate or one.user or one.limits.disk)
        ]
        walls = (
            f"{self.release.topology} has no service {' or '.join(unheld)}: `isolate`, `user` and `disk` of it have "
            f"no effect; write them for {', '.join(self.loaded.services)}"
            if unheld
            else ""
        )
        return tuple(filter(None, (*self.loaded.warnings, walls)))

    def live(self) -> LiveRelease:
        """As the orchestrator knows it."""
        builds = self.release.builds
        sets = {name: set_of(name, builds[name].name, self.settings.service(name)) for name in self.loaded.services}
        return LiveRelease(self.release.name, sets, tuple(self.waves()))

    def waves(self) -> list[tuple[str, ...]]:
        """In which order services stop: callers before those whom they call, what all stand on last."""
        services = self.loaded.services
        alone = tuple(n for n, components in services.items() if self.settings.service(n).command and not components)
        members = {name: components for name, components in services.items() if name not in alone}
        waves = stop_waves(members, {name: set(to) for name, to in self.loaded.references.items()})
        return [*waves, alone]

    def understood(self, other: Release) -> dict[str, frozenset[str]]:
        """Fingerprints with which callers of another release may call here: by the method's own."""
        if other.name not in self._understood:
            self._understood[other.name] = accepted(other.contracts, self.release.contracts)
        return self._understood[other.name]

    def calls(self, service: str) -> list[str]:
        """The components that a service may call."""
        called = [target for name in self.loaded.services[service] for target in self.loaded.references[name]]
        return [*called, *self.settings.service(service).calls]


def set_of(service: str, build: str, settings: ServiceSettings) -> str:
    """The replica set of a service; what cannot be there twice has one for all builds."""
    shared_port = settings.command and (settings.ports != "each" or settings.port)
    alone = shared_port or not Service("", service, (), (), settings).overlap
    return service if alone else set_name(service, build)


def in_place(earlier: Release, later: Release, settings: Settings) -> frozenset[str]:
    """The services that are replaced where they are, if these settings hold for both releases."""
    builds = {name: build.name for name, build in later.builds.items()}
    anew = [name for name, build in earlier.builds.items() if builds.get(name, build.name) != build.name]
    return frozenset(name for name in anew if set_of(name, builds[name], settings.service(name)) == name)


class Fleet:
    """One application's services, replicas and secrets.

    All but editions and secrets is by replica set. routed: addresses, as replicas know them. sent: what each set was
    told.
    listeners: what there is to say of who answers at a program's port, by serial, where that is not itself.
    nurseries: of the zygotes that fork, by name.
    last_lines: what those printed that did not come up, by replica set and slot.
    strays: births of replicas that serve on, though nobody can adopt them any more (see orphans).
    """

    def __init__(self, settings: Settings, topology: str, state: StateFolder) -> None:
        self.root = Path(settings.root)
        self.named = Path(settings.named or settings.root)
        self.state = state
        self.editions: dict[str, Edition] = {}
        self.nurseries: dict[str, Nursery] = {}
        self.desired = Desired()
        self.observed = Observed()
        self.processes: dict[int, Process] = {}
        self.secrets = Secrets.new()
        self.enforcement = Enforcement()
        self.routed = RouteTable()
        self.sent: dict[str, Routes] = {}
        self.differences = Differences()
        self.outside = Callers()
        self.listeners: dict[int, str] = {}
        self.strays: dict[int, int] = {}
        self.last_lines: dict[tuple[str, int], tuple[str, ...]] = {}
        self._detected = False
        self._settings = settings
        self._topology = topology
        self._version = time.time_ns()

    # -- releases -----------------------------------------------------------------------------------

    @property
    def edition(self) -> Edition | None:
        """The release that new requests get, or most of them; None before anything is loaded."""
        shares = self.desired.shares()
        return self.editions.get(max(shares, key=lambda name: shares[name]))

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

    def edition_of(self, name: str) -> Edition:
        """The release of whose code and settings a replica set is made."""
        return self.editions[self.desired.services[name].release]

    def nursery_of(self, name: str) -> Nursery:
        """By whom a replica set's replicas are made."""
        want = self.desired.services[name]
        return self.nurseries.get(want.zygote) or self.editions[want.release].nursery

    def current(self, service: str) -> str:
        """The replica set that is meant by a service's name. Raises KeyError."""
        edition = self.edition
        live = [release for release in self.desired.releases() if edition and release.name == edition.release.name]
        for release in [*live, *self.desired.releases()]:
            if service in release.sets:
                return release.sets[service]
        raise KeyError(service)

    def known(self, service: str) -> bool:
        """Whether a live release has this service."""
        return any(service in release.sets for release in self.desired.releases())

    def names(self) -> tuple[str, ...]:
        """All services, in the order in which they were made."""
        return tuple(dict.fromkeys(service.name for service in self.services.values()))

    def sets(self, service: str) -> tuple[str, ...]:
        """A service's replica sets that are not about to end."""
        return tuple(
            name for name, want in self.desired.services.items() if service_of(name) == service and want.replicas_max
        )

    def roots(self) -> set[str]:
        """The folders of code that are needed: those of loaded releases, and those that processes came from."""
        loaded = {edition.settings.root for edition in self.editions.values()}
        loaded |= {nursery.root for nursery in self.nurseries.values()}
        return loaded | {process.root for process in self.processes.values()}

    def methods(self) -> set[str]:
        """All that can be called now, as "Component.method"."""
        live = (self.editions.get(release.name) for release in self.desired.releases())
        return {label for edition in live if edition is not None for label in edition.release.contracts}

    # -- services -----------------------------------------------------------------------------------

    @property
    def services(self) -> dict[str, Service]:
        """Of all live releases, by replica set."""
        sets = [name for release in self.desired.releases() for name in self.made(release.name)]
        return {name: self.service(name) for name in sets}

    def service(self, name: str) -> Service:
        """What a replica set is made of. Raises KeyError.

        One that cannot be there twice is the same set in each release; it is made of the one that is wanted now.
        """
        want = self.desired.services.get(name)
        for release in (want.release if want is not None else "", *(one.name for one in self.desired.releases())):
            found = self.made(release).get(name)
            if found is not None:
                return found
        raise KeyError(name)

    def service_at(self, name: str, build: str) -> Service:
        """The same, as a replica of this build is made of it: it may have been started before. Raises KeyError."""
        service = self.service(name)
        for edition in self.editions.values():
            made = edition.release.builds.get(service.name)
            if made is not None and made.name == build and name in edition.services:
                return edition.services[name]
        return service

    def made(self, release: str) -> dict[str, Service]:
        """What a release describes, by replica set; nothing where it is not loaded."""
        return self.editions[release].services if release in self.editions else {}

    def command(self, name: str) -> bool:
        """Whether a set's replicas are programs that know nothing of us."""
        return bool(self.service(name).settings.command)

    def lines_of(self, name: str, trouble: str) -> tuple[str, ...]:
        """What a process of a replica set printed last that did not come up, beside its trouble."""
        found = [lines for (set_name, _), lines in self.last_lines.items() if set_name == name and lines]
        return told(found[-1], trouble) if found else ()

    def forget_lines(self, name: str) -> None:
        """Of a set that is no more."""
        for key in [key for key in self.last_lines if key[0] == name]:
            del self.last_lines[key]

    def how_ready(self, name: str) -> str:
        """How it is seen that a set's program serves, as "answers at /health"; "" where replicas say so themselves."""
        if name not in self.services or not self.command(name):
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

    def address(self, name: str, slot: int) -> str:
        """Where the replica in a slot is called."""
        if self.command(name):
            return f"http://{HOST}:{self.port_of(name, slot)}"
        return f"unix:{self.state.socket_path(f'{name}.{slot}')}"

    def port_of(self, name: str, slot: int = 0) -> int:
        """Where the program in a slot is called: the newest that is ready, or else the newest."""
        here = [r for r in self.observed.service(name).replicas.values() if r.slot == slot]
        newest = max(here, key=lambda r: (r.state is READY, r.serial), default=None)
        return self.service(name).port(newest.serial if newest is not None else 0)

    def limits_of(self, replica: Replica) -> Limits:
        """What a replica may use."""
        service = self.service(replica.service)
        return self.edition_of(replica.service).limits.get(service.name, NO_LIMITS)

    def replica(self, serial: int) -> Replica | None:
        """A replica by its serial, if it is not gone."""
        for service in self.observed.services.values():
            if serial in service.replicas:
                return service.replicas[serial]
        return None

    def stop_signal(self, replica: Replica) -> signal.Signals:
        """By which a program ends in order."""
        return signal.Signals[f"SIG{self.service_at(replica.service, replica.build).settings.stop_signal}"]

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

    def waves(self) -> list[tuple[str, ...]]:
        """In which order replica sets stop."""
        waves = [
            tuple(release.sets[service] for service in wave)
            for release in self.desired.releases()
            for wave in release.waves
        ]
        return [*waves, tuple(self.services)]

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

    def routes(self, name: str) -> tuple[str, ...]:
        """Where a replica set is called now."""
        want = self.desired.services.get(name)
        if want is None or want.zero_by:
            return ()  # its release has not come so far, or somebody has scaled it to zero
        slots = routed_slots(want, self.observed.service(name))
        return tuple(self.address(name, slot) for slot in slots)

    def away(self, name: str) -> str:
        """Why nobody is called at a replica set, as somebody wants it so; else ""."""
        want = self.desired.services.get(name)
        return f"is scaled to zero by {want.zero_by}" if want is not None and want.zero_by else ""

    def handover(self, serial: int) -> str:
        """Where a replica takes connections that another accepted."""
        return self.state.socket_path(f"{HANDOVER}-{serial}")

    def handovers(self) -> dict[int, Path]:
        """The sockets of `handover` that are in the folder, by serial: of whoever made them."""
        found = {path.stem.removeprefix(f"{HANDOVER}-"): path for path in self.state.sockets.glob(f"{HANDOVER}-*.sock")}
        return {int(serial): path for serial, path in found.items() if serial.isdecimal()}

    def waits_for(self, name: str) -> tuple[str, ...]:
        """The services that have to serve before the first replica of a replica set is started."""
        want, found = self.desired.services.get(name), self.observed.services
        if want is None or not want.replicas or (name in found and found[name].served):
            return ()
        return tuple(dict.fromkeys(map(service_of, waits_for(self.desired, want, found))))

    def members(self, name: str) -> list[LiveRelease]:
        """The live releases that a replica set belongs to."""
        return [release for release in self.desired.releases() if name in release.sets.values()]

    def ways(self, service: Service, release: LiveRelease) -> dict[str, str]:
        """Which replica set each component is in that a service calls in a release."""
        edition = self.editions[release.name]
        found: dict[str, str] = {}
        for target in edition.calls(service.name):
            other = edition.service_of.get(target)
            if other is not None and other != service.name:
                found[target] = release.sets[other]
        return found

    def routes_for(self, name: str) -> Routes:
        """All that a set's replicas have to know of their callees and their callers. version: 0."""
        service, desired = self.service(name), self.desired
        members = self.members(name) or [self.desired.current]
        shares = desired.shares()
        moved = desired.rollout is not None and desired.rollout.stage is Stage.MOVED
        default = members[-1] if moved else members[0]
        ways = {release.name: self.ways(service, release) for release in members if service.name in release.sets}
        if desired.rollout is not None and len(members) > 1:
            # What still calls these in the name of their release, as a task begun in a request, takes the usual way.
            left = set(desired.rollout.left)
            there = desired.services.keys() - left
            ways = {name: {c: other for c, other in way.items() if other in there} for name, way in ways.items()}
        callees = {
            other: Callee(
                service_of(other),
                () if self.away(other) else self.routed.told.get(other) or self.routes(other),
                self.secrets.services[service_of(other)] if self.command(other) else "",
                self.away(other),
            )
            for other in sorted({other for way in ways.values() for other in way.values()})
        }
        here = sum(shares[release.name] for release in members if release.name in shares)
        own = {release.name: shares.get(release.name, 0.0) / here for release in members} if here > 0 else {}
        return Routes(
            release=default.name,
            releases=tuple(release.name for release in desired.releases()),
            callees=callees,
            ways=ways,
            shares=own,
            elsewhere=dict(self._elsewhere(service, members)),
            sticky=desired.rollout.sticky if desired.rollout is not None else "",
            rollout=desired.rollout.number if desired.rollout is not None else 0,
            access=self._access(service, members),
            gateway_peers=self._gateway_peers(service, members),
        )

    def called(self, service: Service) -> set[str]:
        """The replica sets that a service calls, in any live release."""
        members = [release for release in self.members(service.set) if service.name in release.sets]
        return {other for release in members for other in self.ways(service, release).values()}

    def _elsewhere(self, service: Service, members: list[LiveRelease]) -> Iterator[tuple[str, Elsewhere]]:
        """The other builds of a set's public doors."""
        shares = self.desired.shares()
        for release in self.desired.releases():
            if release in members:
                continue
            edition = self.editions[release.name]
            for door in (GATEWAY_DOOR, *service.doors()):
                other = release.sets.get(edition.service_of.get(door, door) if door else service.name)
                if other is None or other not in self.services or self.command(other):
                    continue
                addresses = tuple(self.handover(replica.serial) for replica in self._ready(other))
                yield door, Elsewhere(shares[release.name], addresses)

    def holders(self) -> dict[Door, list[tuple[Replica, float]]]:
        """By public door, the replicas that serve it: each with its part of the connections, 1 in all."""
        sets: dict[Door, dict[str, float]] = {}
        shares, services = self.desired.shares(), self.services
        for release in self.desired.releases():
            for name in release.sets.values():
                service = services.get(name)
                if service is None or service.settings.command:
                    continue
                for door in doors_of(service):
                    found = sets.setdefault(door, {})
                    found[name] = found.get(name, 0.0) + shares[release.name]
        ready = {name: self._ready(name) for name in services}
        return {
            door: [(one, part / len(ready[name])) for name, part in parts.items() for one in ready[name]]
            for door, parts in sets.items()
        }

    def _ready(self, name: str) -> list[Replica]:
        return [r for r in self.observed.service(name).replicas.values() if r.state is READY and not r.ending]

    def heirs(self, name: str) -> dict[str, tuple[str, ...]]:
        """Who takes the kept connections of a set's replicas that drain, by door."""
        holders = self.holders()
        return {
            door.name: tuple(self.handover(other.serial) for other, part in holders.get(door, ()) if part > 0.0)
            for door in doors_of(self.service(name))
        }

    def callers(self, service: Service, members: list[LiveRelease]) -> Iterator[tuple[Edition, str]]:
        """The services that may call a service, with the release in which they do."""
        for release in members:
            edition = self.editions[release.name]
            for other in edition.loaded.services:
                if other != service.name and set(edition.calls(other)).intersection(service.components):
                    yield edition, other

    def _access(self, service: Service, members: list[LiveRelease]) -> Access:
        peers = {token_digest(self.secrets.operator): OPERATOR}
        callers: dict[str, tuple[str, ...]] = {OPERATOR: (OPERATOR,)}
        references = {OPERATOR: frozenset(service.components)}
        for edition, other in self.callers(service, members):
            peers[token_digest(self.secrets.services[other])] = other
            components = edition.loaded.services[other]
            callers[other] = tuple(dict.fromkeys((*callers.get(other, ()), *components)))
            for component in components:
                called = frozenset(edition.loaded.references[component]).intersection(service.components)
                references[component] = references.get(component, frozenset()) | called
        return Access(peers, callers, references, self._understood(members))

    def _understood(self, members: list[LiveRelease]) -> dict[str, frozenset[str]]:
        """A service that is replaced in place, and those whom it calls, meet requests of every live release."""
        found: dict[str, frozenset[str]] = {}
        for release in members:
            for other in self.desired.releases():
                theirs = self.editions[release.name].understood(self.editions[other.name].release)
                found |= {own: found.get(own, frozenset()) | more for own, more in theirs.items()}
        return found

    def _gateway_peers(self, service: Service, members: list[LiveRelease]) -> tuple[str, ...]:
        """Programs in other languages call over HTTP/JSON."""
        found = {
            token_digest(self.secrets.services[other])
            for edition, other in self.callers(service, members)
            if edition.settings.service(other).command
        }
        return tuple(sorted(found))

    def told(self, name: str) -> Routes:
        """What a set's replicas are to know, with the version by which they say that they know it."""
        found = self.routes_for(name)
        before = self.sent.get(name)
        if before is None or msgspec.structs.replace(before, version=0) != found:
            self._version += 1
            self.sent[name] = msgspec.structs.replace(found, version=self._version)
        return self.sent[name]

    def know(self, name: str) -> bool:
        """Whether all replicas that serve have applied what they are to know now: it may not even be told yet.

        One that was adopted and has not reported yet may serve, and knows what a dead supervisor told it. One that
        starts may serve before it can be told anything, and knows what it was started with.
        """
        version = self.told(name).version
        for replica in self.observed.service(name).replicas.values():
            if replica.unheard and not replica.ending:
                return False
            if replica.state is STARTING and not replica.ending and replica.routes != version:
                return False
            serves = replica.state is READY and not replica.ending
            if serves and (replica.report is None or replica.report.routes != version):
                return False
        return True

"""The releases that are loaded here: each one's code imported in a zygote, with its settings, limits and sockets."""

from collections.abc import Iterator, Mapping
from functools import cached_property

import msgspec

from fissile.machine.limits import Limits
from fissile.machine.zygote.client import ZygoteClient
from fissile.machine.zygote.protocol import Loaded
from fissile.names import ServiceName, SetName
from fissile.orchestrator.deploy_rules import live_release
from fissile.orchestrator.desired import LiveRelease
from fissile.orchestrator.replica import Replica
from fissile.orchestrator.spec import ReleaseSpec
from fissile.orchestrator.state import ApplicationState
from fissile.releases.release import Release
from fissile.settings.schema import Settings
from fissile.supervisor.release_spec import spec_of
from fissile.supervisor.service import Service

NO_LIMITS = Limits()


class LoadedRelease:
    """A release as it is loaded here.

    imported: what its zygote has found in the code. settings: with the folder of the code. zygote: the one that has
    imported it last. sets: by replica set; filled when their listeners are opened.
    """

    def __init__(self, imported: Loaded, settings: Settings, zygote: ZygoteClient, limits: dict[str, Limits]) -> None:
        self.imported = imported
        self.settings = settings
        self.zygote = zygote
        self.limits = limits
        self.sets: dict[SetName, Service] = {}
        self.service_of = {name: service for service, names in imported.services.items() for name in names}

    def __repr__(self) -> str:
        return f"<LoadedRelease {self.release.name} zygote={self.zygote.name} sets={sorted(self.sets)}>"

    @property
    def release(self) -> Release:
        """Its builds and contracts."""
        return self.imported.release

    @cached_property
    def spec(self) -> ReleaseSpec:
        """What decisions have to know of it."""
        imported = self.imported
        # A release that is kept says who may call whom. What was imported just now is believed instead.
        release = msgspec.structs.replace(self.release, services=imported.services, references=imported.references)
        found = spec_of(release, self.settings, imported.http, self.limits)
        lost, migrations = imported.volatile_state, frozenset(imported.migrations)
        return msgspec.structs.replace(found, volatile_state=lost, warnings=imported.warnings, migrations=migrations)

    def live(self) -> LiveRelease:
        """The release as it stands in what is desired."""
        return live_release(self.spec)

    def public_listeners(self) -> list[tuple[str, ServiceName]]:
        """Its public listeners with their services, the one that people open first.

        Components come in reverse order of their starts: nobody else calls the last. ASGI and WSGI applications follow
        in the order of fissile.toml.
        """
        found = [(component, self.service_of[component]) for component in reversed(self.imported.http)]
        return found + [(name, name) for name in self.imported.services if self.settings.service(name).guest]


class LoadedSpecs(Mapping[str, ReleaseSpec]):
    """The specs of the releases whose listeners are open, by name."""

    def __init__(self, releases: Mapping[str, LoadedRelease]) -> None:
        self._releases = releases

    def __getitem__(self, name: str) -> ReleaseSpec:
        release = self._releases[name]
        if not release.sets:
            raise KeyError(name)
        return release.spec

    def __iter__(self) -> Iterator[str]:
        return (name for name, release in self._releases.items() if release.sets)

    def __len__(self) -> int:
        return sum(1 for _ in self)


class LoadedReleases:
    """The loaded releases and the zygotes that fork, each by its name.

    settings, topology: those that the supervisor was given; they hold until a release is loaded.
    """

    def __init__(
        self, app: ApplicationState, loaded: dict[str, LoadedRelease], settings: Settings, topology: str
    ) -> None:
        self.by_name = loaded
        self.zygotes: dict[str, ZygoteClient] = {}
        self._app = app
        self._given = settings
        self._topology = topology

    @property
    def current(self) -> LoadedRelease | None:
        """The release that gets most of the new requests; None before anything is loaded."""
        return self.by_name.get(self._app.desired.main())

    @property
    def settings(self) -> Settings:
        """Settings of the current release, or the initial ones."""
        current = self.current
        return current.settings if current is not None else self._given

    @property
    def topology(self) -> str:
        """Topology of the current release, or the one that was asked for."""
        current = self.current
        return current.release.topology if current is not None else self._topology

    def ask_for(self, topology: str) -> None:
        """Have the first release in this topology."""
        self._topology = topology

    @property
    def current_name(self) -> str:
        """Name of the current release; "" before anything is loaded."""
        current = self.current
        return current.release.name if current is not None else ""

    def of(self, name: SetName) -> LoadedRelease:
        """The release of whose code and settings a replica set is made."""
        return self.by_name[self._app.desired.sets[name].release]

    def zygote_of(self, name: SetName) -> ZygoteClient:
        """The zygote that forks a replica set's replicas."""
        want = self._app.desired.sets[name]
        return self.zygotes.get(want.zygote) or self.by_name[want.release].zygote

    def limits_of(self, replica: Replica) -> Limits:
        """What a replica may use."""
        return self.of(replica.set).limits.get(replica.service, NO_LIMITS)

    def made(self, release: str) -> dict[SetName, Service]:
        """What a release describes, by replica set; nothing where it is not loaded."""
        return self.by_name[release].sets if release in self.by_name else {}

    def folders(self) -> set[str]:
        """The folders of code from which replicas are started."""
        loaded = {release.settings.root for release in self.by_name.values()}
        return loaded | {zygote.application.root for zygote in self.zygotes.values()}

    def methods(self) -> set[str]:
        """All that can be called now, as "Component.method"."""
        live = (self.by_name.get(release.name) for release in self._app.desired.releases())
        return {label for release in live if release is not None for label in release.release.contracts}

"""Keeps endpoints.json as things are: where everything is reached, and what a successor has to know."""

import os
from collections.abc import Callable, Iterator

from fissile.machine.procfs import born
from fissile.orchestrator.deploy_rules import warnings_of
from fissile.orchestrator.replica import READY
from fissile.supervisor.endpoints import Endpoints, ServiceEndpoints
from fissile.supervisor.events import EventRecorder
from fissile.supervisor.state import SupervisorState


class EndpointPublisher:
    """Publishes the endpoints of an application whenever they change.

    losses: what was found to be lost of the journal when it was opened; people are told as long as this runs.
    """

    def __init__(self, state: SupervisorState, events: EventRecorder) -> None:
        self._state = state
        self._events = events
        self.losses: tuple[str, ...] = ()
        self._api = self._api_socket = ""
        self._renew_api: Callable[[], None] = lambda: None
        self._stopping = False
        self._published: Endpoints | None = None

    @property
    def api_socket(self) -> str:
        """Where the API's Unix socket is; "" before it is announced."""
        return self._api_socket

    def announce(self, api: str, api_socket: str, *, renew: Callable[[], None] = lambda: None) -> None:
        """Publish where the supervisor's own API is. renew: makes its Unix socket anew."""
        self._api, self._api_socket, self._renew_api = api, api_socket, renew
        self.publish()

    def renew_api(self) -> None:
        """Make the API's Unix socket anew."""
        self._renew_api()

    def announce_stop(self) -> None:
        """Tell whoever comes from now on that no orders are taken: it is being stopped."""
        self._stopping = True
        self.publish()

    def publish_again(self) -> None:
        """Write the file again: somebody has removed it."""
        self._published = None
        self.publish()

    def publish(self) -> None:
        """Write the endpoints, if they are not as they were written last."""
        # Not before all is opened, nor once it is being closed: readers would find less than there is.
        if not self._state.serving:
            return
        endpoints = self.endpoints()
        if endpoints == self._published:
            return
        try:
            self._state.folder.publish(endpoints)
            self._published = endpoints
        except OSError as error:  # a full disk must not take down what runs
            self._events.log(f"the endpoints cannot be written: {error}")

    def endpoints(self) -> Endpoints:
        """Where everything is reached now."""
        state, current = self._state, self._state.releases.current
        zygote = current.zygote.pid if state.detached and current is not None else None
        return Endpoints(
            pid=os.getpid(),
            born=born(os.getpid()),
            application=current.imported.name if current is not None else "",
            topology=state.releases.topology,
            token=state.secrets.gateway,
            services=dict(self._services()),
            # By these a successor finds replicas whose zygote has died, too.
            births={**dict(state.processes.births()), **state.app.strays} if state.detached else {},
            zygote=zygote,
            zygote_born=born(zygote) if zygote else None,
            folder=state.folder.mark().application,
            api=self._api,
            api_token=state.secrets.api if self._api else "",
            api_socket=self._api_socket,
            release=state.releases.current_name,
            resumed=state.resumed,
            warnings=tuple(dict.fromkeys(self._warnings())),
            background=state.detached,
            stopping=self._stopping,
        )

    def _warnings(self) -> Iterator[str]:
        yield from self.losses
        if self._state.releases.current is not None:
            yield from warnings_of(self._state.releases.current.spec)

    def _services(self) -> Iterator[tuple[str, ServiceEndpoints]]:
        """The services of the current release."""
        state = self._state
        if state.releases.current is None:
            return
        for name, replica_set in state.releases.current.spec.sets.items():
            service = state.sets.service(replica_set)
            replicas = state.observed.replica_set(replica_set).replicas.values()
            yield (
                name,
                ServiceEndpoints(
                    gateway=state.sets.gateway(service),
                    public=state.sets.public(service),
                    token=state.secrets.services[name] if service.settings.command else "",
                    components=service.components,
                    pids=tuple(r.pid for r in replicas if r.state is READY),
                ),
            )

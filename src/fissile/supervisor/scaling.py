"""What the autoscaler has to know, as it is seen here: policies from the settings, demand from heartbeats."""

import select

from fissile.orchestrator.autoscale import Demand, ScalingPolicy
from fissile.orchestrator.rollout import least
from fissile.runtime.settings import ScaleSettings
from fissile.supervisor.fleet import Fleet
from fissile.supervisor.service import Service


class Scaling:
    """Looks at a fleet."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    def policy(self, service: str) -> ScalingPolicy:
        """Between which counts a service may be scaled, and by what."""
        want, scale = (
            self._fleet.desired.services[service],
            self._fleet.service(service).settings.scale or ScaleSettings(),
        )
        group = "" if service in self._fleet.desired.current.sets.values() else "rollout"
        return ScalingPolicy(
            want.replicas_min,
            want.replicas_max,
            scale.target,
            scale.weight,
            scale.idle_seconds,
            group,
            least(self._fleet.desired, service),
        )

    def demands(self) -> dict[str, Demand]:
        """What their callers, their public doors and their replicas say of all sets. One look at each process."""
        called: dict[str, int] = {}
        own: dict[str, _Own] = {name: _Own() for name in self._fleet.desired.services}
        for _, beat in self._fleet.observed.reports():
            here = own.get(beat.hello.set)
            if here is not None:
                here.running += beat.in_flight + beat.queued
                here.requests += beat.requests
            for callee, count in beat.calls.items():
                called[callee] = called.get(callee, 0) + count
                if here is not None and count:
                    here.waiting[callee] = here.waiting.get(callee, 0.0) + count
        services = self._fleet.services
        return {name: self._demand(services[name], called.get(name, 0), own[name]) for name in own if name in services}

    def _demand(self, service: Service, called: int, own: "_Own") -> Demand:
        want, ready = self._fleet.desired.services[service.set], self._fleet.observed.service(service.set).ready()
        return Demand(
            # Tools call too, and report nothing: what runs is the least that there is.
            in_flight=float(max(called, own.running) + own.requests),
            ready=ready,
            waiting=own.waiting,
            wake=want.automatic and want.replicas == 0 and _knocked(service),
            places=0 if service.settings.foreign else ready * service.settings.concurrency,
        )


class _Own:
    """What a set's replicas say of themselves."""

    __slots__ = ("requests", "running", "waiting")

    def __init__(self) -> None:
        self.running = self.requests = 0
        self.waiting: dict[str, float] = {}


def _knocked(service: Service) -> bool:
    """Whether a connection waits at one of its sockets, on which nobody accepts."""
    poll = select.poll()
    for sock in service.sockets():
        poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))

"""What the autoscaler has to know, as it is seen here: policies from the settings, demand from heartbeats."""

import select

from fissile.orchestrator.autoscale import Demand, ScalingPolicy
from fissile.orchestrator.desired import service_of
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

    def demand(self, name: str) -> Demand:
        """What its callers, its public doors and its replicas say of a service."""
        called = running = requests = 0
        waiting: dict[str, float] = {}
        for process in self._fleet.processes.values():
            beat = process.link.heartbeat
            if beat is None:
                continue
            called += beat.calls.get(name, 0)
            if beat.hello.set == name:
                running += beat.in_flight + beat.queued
                requests += beat.requests
                for callee, count in beat.calls.items():
                    other = service_of(callee)
                    waiting[other] = waiting.get(other, 0.0) + count
        asleep = self._fleet.desired.services[name].replicas == 0
        return Demand(
            # Tools call too, and report nothing: what runs is the least that there is.
            in_flight=float(max(called, running) + requests),
            ready=self._fleet.observed.service(name).ready(),
            waiting=waiting,
            wake=asleep and _knocked(self._fleet.service(name)),
        )


def _knocked(service: Service) -> bool:
    """Whether a connection waits at one of its sockets, on which nobody accepts."""
    poll = select.poll()
    for sock in service.sockets():
        poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))

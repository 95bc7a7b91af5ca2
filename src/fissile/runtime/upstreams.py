"""The channels of one replica to all whom its components call, and which release takes which.

There is a channel for each replica set that is called, shared by the components of this process. What a
component holds is a way to another component: through which channel, by the release of the request.
"""

import asyncio
import time
from typing import Any

from fissile.component.graph import Graph
from fissile.component.reference import Ref
from fissile.rpc.channel import Channel, contracts_of
from fissile.rpc.http import client
from fissile.rpc.http.client import HttpChannel
from fissile.rpc.route import Route
from fissile.rpc.stub import remote
from fissile.runtime.control import Callee, ReplicaSpec, Routes
from fissile.telemetry.recorder import Recorder

RETIRE_SECONDS_MAX = 60.0
RETIRE_CHECK_SECONDS = 0.1


class Upstreams:
    """Of one replica."""

    def __init__(self, graph: Graph, spec: ReplicaSpec, recorder: Recorder) -> None:
        self._graph = graph
        self._spec = spec
        self._recorder = recorder
        self.channels: dict[str, Channel | HttpChannel] = {}
        self._routes: dict[str, Route[Any]] = {}
        # Until their last calls are over, and with what waits for it.
        self._retired: dict[Channel | HttpChannel, asyncio.Task[None]] = {}

    def apply_routes(self, routes: Routes) -> None:
        """Call whom these routes say, from now on."""
        targets: dict[str, dict[str, None]] = {}
        for way in routes.targets.values():
            for component, name in way.items():
                targets.setdefault(name, {})[component] = None
        for name, callee in routes.callees.items():
            channel = self.channels.get(name)
            if channel is None:
                channel = self.channels[name] = self._channel(callee, targets.get(name, {}))
            channel.route(callee.addresses, callee.away)
        for component in {component for way in routes.targets.values() for component in way}:
            others = {
                release: self.channels[way[component]] for release, way in routes.targets.items() if component in way
            }
            usual = others.get(routes.release) or next(iter(others.values()))
            known = self._routes.get(component)
            if known is None:
                known = self._routes[component] = Route(usual)
            known.set_targets(usual, others)
        for name in [name for name in self.channels if name not in routes.callees]:
            self._retire(self.channels.pop(name))

    def _channel(self, callee: Callee, targets: dict[str, None]) -> Channel | HttpChannel:
        if callee.token:
            client.library()
            return HttpChannel(callee.service, callee.addresses, token=callee.token)
        return Channel(
            callee.service,
            callee.addresses,
            caller_service=self._spec.service,
            token=self._spec.token,
            callers=self._spec.components,
            contracts=contracts_of(self._graph.components[target].interface for target in targets),
        )

    def _retire(self, channel: Channel | HttpChannel) -> None:
        """Nobody takes it any more, but for calls that are in flight."""

        async def close() -> None:
            limit = time.monotonic() + RETIRE_SECONDS_MAX
            while channel.in_flight() and time.monotonic() < limit:  # noqa: ASYNC110 -- a call's path pays for no event
                await asyncio.sleep(RETIRE_CHECK_SECONDS)
            await channel.close()
            del self._retired[channel]

        self._retired[channel] = asyncio.get_running_loop().create_task(close())

    def reference(self, caller: str, target: str) -> Ref:
        """What a component holds of another."""
        way, interface = self._routes[target], self._graph.components[target].interface
        seconds, observe = self._spec.calls_timeout_seconds, self._recorder.observe
        if isinstance(way.channel, HttpChannel):
            return client.http_reference(
                interface, way, timeout_seconds=seconds, observe=observe, variables=self._graph.context
            )
        return remote(
            interface, way, caller=caller, timeout_seconds=seconds, observe=observe, variables=self._graph.context
        )

    def in_flight(self) -> dict[str, int]:
        """Calls that wait for an answer, by replica set."""
        return {name: count for name, channel in self.channels.items() if (count := channel.in_flight())}

    async def close(self) -> None:
        """Close all channels."""
        waiting = list(self._retired.values())
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        for channel in [*self.channels.values(), *self._retired]:
            await channel.close()
        self._retired.clear()

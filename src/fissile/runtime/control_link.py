"""The connection of a replica to its supervisor: it reports, and takes orders.

A replica serves on when its supervisor dies, and attaches to the next one by itself.
"""

import asyncio
from contextlib import suppress
from math import inf
from typing import Any, Protocol

from fissile.errors import CallError, ConfigError, FissileError, advises
from fissile.rpc.channel import Channel, contracts_of
from fissile.rpc.stub import remote
from fissile.runtime.control import (
    CONTROL_CALLER,
    CONTROL_INTERFACE,
    Drain,
    Heartbeat,
    Move,
    ReplicaSpec,
    Routes,
    StartFailure,
)
from fissile.runtime.heartbeat_pacer import HeartbeatPacer
from fissile.runtime.reporter import Reporter
from fissile.runtime.stacks import Stacks
from fissile.telemetry.pulse import Pulse

REATTACH_SECONDS = 0.1
REATTACH_SECONDS_MAX = 2.0


class Supervised(Protocol):
    """A replica, as its supervisor sees it."""

    spec: ReplicaSpec
    reporter: Reporter
    pulse: Pulse

    def busy(self) -> int:
        """Calls and requests in flight, here and from here."""
        ...

    def pinned(self) -> tuple[str, ...]:
        """Releases with requests in flight."""
        ...

    def heartbeat(self, lag_seconds: float) -> Heartbeat:
        """The figures of now."""
        ...

    def apply_routes(self, routes: Routes) -> None:
        """Call, and be called, as these routes say."""
        ...

    def move(self, order: Move) -> None:
        """Move kept connections to other replicas."""
        ...

    def request_stop(self, order: Drain) -> None:
        """Drain within the order's limit, then stop."""
        ...


class ControlLink:
    """A replica's connection to whoever supervises it now.

    imported: modules that it had to import itself, for its zygote to import ahead.
    """

    def __init__(self, replica: Supervised, address: str, token: str) -> None:
        self._replica = replica
        self._channel = Channel(
            "supervisor",
            [address],
            caller_service=replica.spec.service,
            token=token,
            callers=(CONTROL_CALLER,),
            contracts=contracts_of([CONTROL_INTERFACE]),
            # There is one supervisor: none could be preferred to it, so nothing is gained by signs of life.
            look_seconds=inf,
        )
        self._control: Any = remote(CONTROL_INTERFACE, self._channel, caller=CONTROL_CALLER)
        self.imported: tuple[str, ...] = ()
        self._tasks: list[asyncio.Task[None]] = []
        self._pacer = HeartbeatPacer(replica.pulse)
        self._stacks: Stacks | None = None

    def __repr__(self) -> str:
        return f"<control link of {self._replica.spec.set} {self._replica.spec.slot}: {self._channel}>"

    def start(self) -> None:
        """Attach, and begin to report."""
        self._stacks = Stacks(self._replica.spec.stacks)
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._take_orders()), loop.create_task(self._report())]

    async def _take_orders(self) -> None:
        pause = REATTACH_SECONDS
        reporter = self._replica.reporter
        while True:
            try:
                # Ready first: a supervisor that adopts this replica sends routes only to one that serves.
                await self._control.report(reporter.ready(self.imported))
                reporter.resend()
                async for command in self._control.attach(reporter.hello):
                    pause = REATTACH_SECONDS
                    self._obey(command)
            except CallError:
                pass  # nobody supervises just now: serve on, and look again
            await asyncio.sleep(pause)
            pause = min(pause * 2, REATTACH_SECONDS_MAX)

    def _obey(self, command: Any) -> None:
        if isinstance(command, Routes):
            self._replica.apply_routes(command)
            # A rollout goes on when every replica has reported these routes as applied.
            self._pacer.hurry()
        elif isinstance(command, Move):
            self._replica.move(command)
        else:
            self._replica.request_stop(command if isinstance(command, Drain) else Drain(0.0))

    async def _report(self) -> None:
        """Report every second; earlier when load changes suddenly, or somebody waits for the report."""
        replica, pacer = self._replica, self._pacer
        lag = 0.0
        while True:
            # Asked anew each time: much may have begun while the last report was on its way.
            lag = max(lag, await pacer.sleep(resting=not replica.busy()))
            if not pacer.is_due(replica.busy(), replica.pinned()):
                continue
            beat, lag = replica.heartbeat(lag), 0.0
            with suppress(CallError):
                await self._control.report(beat)
                # After the answer: a report that is lost is made again with the next heartbeat.
                replica.reporter.delivered(beat)

    async def leaving(self) -> None:
        """Report that the replica drains, so that a supervisor that did not order it starts another in time."""
        with suppress(CallError):
            await self._control.report(self._replica.reporter.ready(self.imported))

    async def failed(self, message: str, error: FissileError) -> None:
        """Report that the replica cannot start. message: the error's, for people."""
        hello = self._replica.reporter.hello
        failed = StartFailure(hello, message, isinstance(error, ConfigError), advises(error))
        with suppress(CallError):
            await self._control.report(failed)
        await self._channel.close()

    async def close(self) -> None:
        """Detach."""
        if self._stacks is not None:
            self._stacks.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        # After the tasks, before the channel: the last finding of a replica that is about to end.
        if self._replica.reporter.outside.news():
            with suppress(CallError):
                await self._control.report(self._replica.heartbeat(0.0))
        await self._channel.close()

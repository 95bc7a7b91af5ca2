"""One slot of a service: a listening socket that stays, and the replica that now serves on it.

A slot has one keeper, the only one who starts replicas in it: after a death, or because a restart is
wished. So two replicas never contend for a slot, save for the moment in which a new one takes over.
"""

import asyncio
import random
import signal
import socket
import time
from collections.abc import Awaitable, Callable

from fissile.errors import FissileError
from fissile.orchestrator.restart import Deaths, ReplicaExited, decide, described
from fissile.runtime.control import DRAIN_SECONDS_MAX, Drain
from fissile.supervisor.desk import Link
from fissile.supervisor.nursery import Child

START_SECONDS_MAX = 30.0
START_ATTEMPTS_MAX = 3
# Beyond the drain's own limit: time to stop the components after it.
STOP_SECONDS_MAX = 5.0
TERMINATE_SECONDS_MAX = 2.0
# How long idle keep-alive clients of the edge may stay to hear that their connection closes.
IDLE_SECONDS_MAX = 5.0


class StartFailed(FissileError):
    """A replica did not become ready: most often its application's fault; the message has its own words."""


class Replica:
    """A process in a slot. state: starting, ready, draining; never back."""

    def __init__(self, child: Child, link: Link, build: str) -> None:
        self.child = child
        self.link = link
        self.build = build
        self.state = "starting"
        self.ready_at: float | None = None

    async def ready(self, seconds_max: float) -> None:
        """Wait until it serves. Raises StartFailed, and leaves no process, if it does not come to that."""
        self.child.exited.add_done_callback(
            lambda exited: self.link.settle(f"it {described(exited.result())} before it was ready")
        )
        try:
            async with asyncio.timeout(seconds_max):
                trouble = await asyncio.shield(self.link.outcome)
        except TimeoutError:
            trouble = f"it was not ready within {seconds_max:g} s"
            self.child.signal(signal.SIGKILL)
        if trouble is not None:
            await self.gone(STOP_SECONDS_MAX)
            self.child.signal(signal.SIGKILL)
            raise StartFailed(trouble)
        self.state = "ready"
        self.ready_at = time.monotonic()

    async def drain(self, order: Drain) -> None:
        """Have it finish its work and end; within the order's limit and a bit it does, or is killed."""
        self.state = "draining"
        self.link.commands.put_nowait(order)
        if not await self.gone(order.seconds_max + STOP_SECONDS_MAX):
            await self.terminate(TERMINATE_SECONDS_MAX)

    async def terminate(self, seconds_max: float) -> bool:
        """Ask it to end by signal, and kill it when it does not; whether it ended by itself."""
        self.state = "draining"
        self.child.signal(signal.SIGTERM)
        gently = await self.gone(seconds_max)
        if not gently:
            await self.kill()
        return gently

    async def kill(self) -> None:
        """End it at once."""
        self.child.signal(signal.SIGKILL)
        await asyncio.shield(self.child.exited)

    async def gone(self, seconds_max: float) -> bool:
        """Wait for its end; whether it came within the limit."""
        await asyncio.wait([self.child.exited], timeout=seconds_max)
        return self.child.exited.done()


class Slot:
    """A place for one replica.

    launch: forks a replica into it. say: tells people what happens. changed: called when another
    replica serves, or none.
    """

    def __init__(
        self,
        service: str,
        number: int,
        listener: socket.socket,
        address: str,
        *,
        launch: Callable[["Slot"], Awaitable[Replica]],
        say: Callable[["Slot", str], None],
        changed: Callable[[], None],
    ) -> None:
        self.service = service
        self.number = number
        self.listener = listener
        self.address = address
        self.current: Replica | None = None
        self.restarts = 0
        self._launch = launch
        self._say = say
        self._changed = changed
        self._keeper: asyncio.Task[None] | None = None
        self._up: asyncio.Future[None] | None = None
        self._wish: asyncio.Future[None] | None = None
        self._wished = asyncio.Event()
        self._leaving: dict[Replica, asyncio.Task[None]] = {}
        self._deaths = Deaths()

    async def start(self) -> None:
        """Keep a replica running from now on, and wait for the first.

        Raises StartFailed or ForkError when that has failed so often that it is not an accident.
        """
        self._up = asyncio.get_running_loop().create_future()
        self._keeper = asyncio.create_task(self._keep())
        await asyncio.wait({self._up, self._keeper}, return_when=asyncio.FIRST_COMPLETED)
        if self._keeper.done():
            self._keeper.result()  # a bug of ours is not to be waited for
        self._up.result()

    async def stop(self, seconds_max: float) -> None:
        """Keep nothing running any more: end all that is here, by force what is left after the limit."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
            self._keeper = None
        leaving = list(self._leaving)
        for task in self._leaving.values():
            task.cancel()
        current, self.current = self.current, None
        replicas = [*leaving, *([current] if current is not None else [])]
        await asyncio.gather(*(replica.terminate(seconds_max) for replica in replicas))

    async def kill(self) -> None:
        """Keep nothing running any more, and end what is here at once."""
        if self.current is not None:
            self.current.child.signal(signal.SIGKILL)
        await self.stop(0.0)
        self._changed()

    async def restart(self) -> None:
        """Replace the replica and wait until the old one is gone. Raises StartFailed or ForkError."""
        if self._wish is None:
            self._wish = asyncio.get_running_loop().create_future()
        self._wished.set()
        await asyncio.shield(self._wish)

    def replicas(self) -> list[Replica]:
        """Those who serve here, and those who are on their way out."""
        return [*([self.current] if self.current is not None else []), *self._leaving]

    async def _keep(self) -> None:
        failures = 0
        while True:
            try:
                replica = await self._start()
            except FissileError as error:
                failures += 1
                self._settle(error)
                if failures >= START_ATTEMPTS_MAX and self._up is not None and not self._up.done():
                    self._up.set_exception(error)
                    return
                await self._pause(ReplicaExited(f"cannot start: {error}\n", 0.0))
                continue
            self._serve(replica)
            if self._up is not None and not self._up.done():
                self._up.set_result(None)
            self._settle(None)
            died, status = await self._watch()
            self.current = None
            self._changed()
            served = time.monotonic() - (died.ready_at or 0.0)
            await self._pause(ReplicaExited(f"pid {died.child.pid} {described(status)}", served))

    async def _pause(self, exited: ReplicaExited) -> None:
        self._deaths, order = decide(self._deaths, exited, random.random())
        self._say(self, order.reason)
        self.restarts += 1
        await asyncio.sleep(order.after_seconds)

    def _settle(self, error: Exception | None) -> None:
        """Whoever wished for a new replica has got one, or learns why not."""
        wish, self._wish = self._wish, None
        self._wished.clear()
        if wish is not None and not wish.done():
            if error is None:
                wish.set_result(None)
            else:
                wish.set_exception(error)

    async def _start(self) -> Replica:
        """A replica that is ready. Raises StartFailed or ForkError; no process is left then."""
        replica = await self._launch(self)
        try:
            await replica.ready(START_SECONDS_MAX)
        except asyncio.CancelledError:
            replica.child.signal(signal.SIGKILL)  # it serves nobody yet
            raise
        return replica

    def _serve(self, replica: Replica) -> None:
        self.current = replica
        self._changed()

    async def _watch(self) -> tuple[Replica, int | None]:
        """The replica that died here, and its exit status; replaces it meanwhile when that is wished."""
        while True:
            assert self.current is not None
            exited = self.current.child.exited
            wished = asyncio.ensure_future(self._wished.wait())
            try:
                await asyncio.wait({exited, wished}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                wished.cancel()
            if exited.done():
                return self.current, exited.result()
            await self._replace(self.current)

    async def _replace(self, old: Replica) -> None:
        """Start first, drain after: callers on the shared sockets always find somebody."""
        try:
            replica = await self._start()
        except FissileError as error:
            self._settle(error)
            return
        wish, self._wish = self._wish, None
        self._wished.clear()
        leaving = self._leaving[old] = asyncio.create_task(self._let_go(old, wish))
        leaving.add_done_callback(lambda _: self._leaving.pop(old))
        self.restarts += 1
        self._serve(replica)

    async def _let_go(self, old: Replica, wish: "asyncio.Future[None] | None") -> None:
        await old.drain(Drain(DRAIN_SECONDS_MAX, idle_seconds_max=IDLE_SECONDS_MAX))
        if wish is not None and not wish.done():
            wish.set_result(None)

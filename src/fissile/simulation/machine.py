"""A machine that is not there: a zygote and processes, which fail as real ones do.

Every service draws from dice of its own, so that what befalls one
does not alter the fate of another.
"""

from collections.abc import Callable, Mapping
from enum import StrEnum

import msgspec

from fissile.names import ServiceName, SetName, service_of
from fissile.orchestrator.routing import CallerRules, SetRoutes, Told
from fissile.runtime.traffic_split import TrafficSplitter
from fissile.simulation.clock import Clock
from fissile.simulation.dice import Chance, Dice

FORK_SECONDS = 0.01
KILL_SECONDS = 0.002
# Before one that drains looks again whether its work is done.
BUSY_SECONDS = 0.05

UNTOLD = Told(0, SetRoutes("", (), {}, {}, {}, {}, "", 0, CallerRules()))


class Phase(StrEnum):
    """Of a process, as it really is, whatever anybody knows of it."""

    BOOTING = "booting"
    SERVING = "serving"
    HUNG = "hung"
    DRAINING = "draining"
    DEAD = "dead"


class Process(msgspec.Struct, eq=False):
    """A replica's process. mute_until: what it reports is lost until then. deaf: to what it is asked.

    release, build: whose code it runs. knows: the routes that it has applied, and split: what its door makes of them.
    pinned: requests under way at its door, by release. heirs: serials of those who take over when it drains.
    """

    pid: int
    serial: int
    set: SetName
    slot: int
    revision: int
    phase: Phase = Phase.BOOTING
    dead_at: float = 0.0
    failed_at: float = 0.0
    mute_until: float = 0.0
    deaf: bool = False
    release: str = ""
    build: str = ""
    knows: Told = UNTOLD
    split: TrafficSplitter = msgspec.field(default_factory=lambda: TrafficSplitter("", lambda: 0.0))
    pinned: dict[str, int] = {}
    heirs: tuple[int, ...] = ()

    @property
    def serves(self) -> bool:
        """Whether it accepts calls."""
        return self.phase is Phase.SERVING


class Habits(msgspec.Struct):
    """How a service's processes behave. Seconds; shares are of starts, in [0, 1]."""

    start_seconds: float = 0.05
    drain_seconds: float = 0.3
    slow_share: float = 0.0
    stillborn_share: float = 0.0
    deaf_share: float = 0.0


class Machine:
    """Processes by pid, and the zygote that makes them. It outlives supervisors."""

    def __init__(self, clock: Clock, chance: Chance, habits: Mapping[ServiceName, Habits]) -> None:
        self.clock = clock
        self.habits = habits
        self.processes: dict[int, Process] = {}
        self._sets: dict[str, dict[int, Process]] = {}
        self.zygote_returns_at = 0.0
        self.buried: list[int] = []
        self.report: Callable[[Process, str], None] = lambda process, what: None
        self.prepare: Callable[[Process], None] = lambda process: None
        self.busy: Callable[[Process], bool] = lambda process: False
        self.doomed: Callable[[Process], bool] = lambda process: False
        self._dice = {name: chance(name) for name in habits}
        self._last_pid = 0

    def dice(self, service: SetName) -> Dice:
        """A service's own chance."""
        return self._dice[service_of(service)]

    def habits_of(self, name: SetName) -> Habits:
        """How a replica set's processes behave: as those of its service."""
        return self.habits[service_of(name)]

    def alive(self, service: SetName) -> list[Process]:
        """Its processes, in the order of their births."""
        return list(self._sets.get(service, {}).values())

    def serving(self, service: str) -> list[Process]:
        """Those of a replica set that accept calls, in the order of their births."""
        return [p for p in self._sets.get(service, {}).values() if p.phase is Phase.SERVING]

    def fork(
        self, serial: int, service: SetName, slot: int, revision: int, born: Callable[[Process | None], None]
    ) -> None:
        """Order a process; it comes, or does not, whoever still waits for it then."""

        def fork() -> None:
            if self.clock.now < self.zygote_returns_at:
                born(None)
                return
            self._last_pid += 1
            process = Process(self._last_pid, serial, service, slot, revision)
            self.processes[process.pid] = process
            self._sets.setdefault(service, {})[process.pid] = process
            self.prepare(process)
            self._boot(process)
            born(process)

        self.clock.after(FORK_SECONDS, fork)

    def _boot(self, process: Process) -> None:
        habits, dice = self.habits_of(process.set), self.dice(process.set)
        process.deaf = dice.random() < habits.deaf_share
        taken = habits.start_seconds * (0.5 + dice.random())
        if dice.random() < habits.stillborn_share or self.doomed(process):
            self.clock.after(taken * dice.random(), self.kill, process)
        elif dice.random() < habits.slow_share:
            self.clock.after(60.0, self._serve, process)
        else:
            self.clock.after(taken, self._serve, process)

    def _serve(self, process: Process) -> None:
        if process.phase is Phase.BOOTING:
            process.phase = Phase.SERVING
            self.report(process, "ready")

    def kill(self, process: Process) -> None:
        """It is gone at once."""
        if process.phase is Phase.DEAD:
            return
        if process.phase is Phase.SERVING:
            process.failed_at = self.clock.now
        process.phase = Phase.DEAD
        process.dead_at = self.clock.now
        del self.processes[process.pid], self._sets[process.set][process.pid]
        self.report(process, "ended")

    def signal(self, process: Process) -> None:
        """A kill that takes its moment."""
        self.clock.after(KILL_SECONDS, self.kill, process)

    def hang(self, process: Process) -> None:
        """It is there, and does nothing any more."""
        if process.phase is Phase.SERVING:
            process.phase = Phase.HUNG
            process.failed_at = self.clock.now

    def drain(self, process: Process) -> None:
        """It is asked to finish, and does so in its time, unless it is deaf to that."""
        if process.phase is not Phase.SERVING:
            return
        process.phase = Phase.DRAINING
        if not process.deaf:
            seconds = self.habits_of(process.set).drain_seconds * 2 * self.dice(process.set).random()
            self.clock.after(seconds, self._finish, process)

    def _finish(self, process: Process) -> None:
        """It ends with the last of its work."""
        if process.phase is Phase.DRAINING and self.busy(process):
            self.clock.after(BUSY_SECONDS, self._finish, process)
        else:
            self.kill(process)

    def terminate(self, process: Process) -> None:
        """The polite signal; half of the deaf hear that."""
        if not process.deaf or self.dice(process.set).random() < 0.5:
            self.signal(process)

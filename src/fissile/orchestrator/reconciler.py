"""Compares what is desired with what is observed, and has the machine act: the loop's one step, and its one watch.

The supervisor runs it on Linux, and the simulation on a machine that is not there; both are an `Executor`. It never
waits: whoever runs it asks again when something was observed, or at the time that a step returns.
"""

from collections.abc import Callable, Iterable
from math import inf
from typing import Any

import msgspec

from fissile.errors import FissileError
from fissile.names import SetName
from fissile.orchestrator.change import ChangeRefused
from fissile.orchestrator.change_writer import ChangeWriter
from fissile.orchestrator.executor import Executor
from fissile.orchestrator.health import Silence, over_memory, silence, stuck_loop
from fissile.orchestrator.invariant_checks import start_breaks, targets_break
from fissile.orchestrator.plan import (
    STARTING_MAX,
    AbandonRestart,
    Action,
    DrainReplica,
    KillReplica,
    StartReplica,
    StopReplica,
    plan,
)
from fissile.orchestrator.reasons import NotReadyInTime, Reason
from fissile.orchestrator.replica import (
    DRAINING,
    READY,
    STARTING,
    Observation,
    Replica,
    ReplicaHung,
    ReplicaReported,
    stuck_places,
)
from fissile.orchestrator.routes import Target
from fissile.orchestrator.routing import Router
from fissile.orchestrator.state import ApplicationState

# Before a change is tried again that the journal did not take.
TROUBLE_SECONDS = 1.0


class Step(msgspec.Struct, frozen=True):
    """What was done, and when to ask again at the latest (monotonic seconds); at once, where something was done."""

    actions: tuple[Action, ...]
    due: float


class Reconciler:
    """Of one application. Times are monotonic seconds."""

    def __init__(
        self, state: ApplicationState, executor: Executor, writer: ChangeWriter, complain: Callable[[str], None]
    ) -> None:
        self._state = state
        self._executor = executor
        self._writer = writer
        self._complain = complain
        # The releases and the rollout that everybody was told of last, and by which decisions.
        self._live: Any = None
        self._pushed: Router | None = None

    def step(self, now: float) -> Step:
        """Compare once, and have done what follows."""
        state = self._state
        found = plan(state.desired.paused(state.paused), state.observed, now)
        # What is on its way to the journal is done when it is there.
        wait = {name: when for name, when in state.abandoning.items() if when > now}
        actions = tuple(one for one in found.actions if not (isinstance(one, AbandonRestart) and one.set in wait))
        starting = self._starting() if any(type(action) is StartReplica for action in actions) else 0
        done: list[Action] = []
        for action in actions:
            if self._is_sound(action, starting) and self._perform(action, now):
                done.append(action)
                starting += type(action) is StartReplica
        self._order_leavers()
        self._push_routes(now)
        self._tell_broken()
        # What was not done is not asked for without a pause.
        again = inf if len(done) == len(actions) else now + TROUBLE_SECONDS
        return Step(tuple(done), now if done else min(found.due, state.routed.due, again, *wait.values()))

    def _starting(self) -> int:
        sets = self._state.observed.sets.values()
        return sum(1 for found in sets for replica in found.replicas.values() if replica.state is STARTING)

    def _is_sound(self, action: Action, starting: int) -> bool:
        """Whether an action breaks no invariant; what does is not done."""
        if type(action) is not StartReplica:
            return True
        found = self._state.observed.sets.get(action.set)
        broken = start_breaks(action.set, found, action.slot, starting, STARTING_MAX)
        if broken is not None:
            self._state.broke(broken, action)
        return broken is None

    def _tell_broken(self) -> None:
        """What was found to be broken as something was observed."""
        observed = self._state.observed
        if observed.broken:
            found, observed.broken = observed.broken, []
            for broken in found:
                self._state.broke(broken)

    def _perform(self, action: Action, now: float) -> bool:
        """Whether it was done."""
        state = self._state
        if isinstance(action, StartReplica):
            release = state.releases[state.desired.sets[action.set].release]
            build = release.builds[action.service]
            replica = state.observed.begin(action.set, action.slot, action.revision, build, now)
            self._executor.start(replica, action.reason)
        elif isinstance(action, DrainReplica):
            if not state.observed.drain(action.replica, now):
                return False
            self._executor.drain(action.replica, action.reason)
        elif isinstance(action, StopReplica):
            state.observed.stop(action.replica)
            self._executor.stop(action.replica, action.reason)
        elif isinstance(action, KillReplica):
            self.kill(action)
        else:
            self._give_up(action, now)
        return True

    def _give_up(self, action: AbandonRestart, now: float) -> None:
        """Through the one door, however often it has to be tried; meanwhile the replicas that are there serve."""
        abandoning = self._state.abandoning
        abandoning[action.set] = inf

        def done(error: FissileError | None, at: float) -> None:
            del abandoning[action.set]
            if error is not None and not isinstance(error, ChangeRefused):  # else somebody has wanted something else
                abandoning[action.set] = at + TROUBLE_SECONDS
                self._complain(f"{action.service}: its restart cannot be taken back: {error}")

        self._writer.submit(action.change, done, now)

    def kill(self, action: KillReplica) -> None:
        """End a replica at once: from now on it counts no more."""
        replica, reason = action.replica, action.reason
        if isinstance(reason, NotReadyInTime) and (missing := self._executor.explain(replica)):
            reason = NotReadyInTime(reason.seconds_max, missing)
        self._state.observed.end(replica, reason, fault=action.fault)
        self._executor.kill(replica, reason, fault=action.fault)

    def observe(self, replica: Replica, observation: Observation, now: float) -> Reason | None:
        """Something was seen of a replica; what follows from its end, None where nothing is to be said."""
        observed = self._state.observed
        follows = observed.observe(replica, observation, now)
        want = self._state.desired.sets.get(replica.set)
        if isinstance(observation, ReplicaReported) and want is not None and replica.state is READY:
            stuck = observation.report.stuck
            why = stuck_places(stuck.seconds, stuck.holders, want.stuck_seconds_max) if stuck is not None else None
            if why is not None:
                observed.observe(replica, ReplicaHung(why), now)
        self._tell_broken()
        return follows

    def watch(self, now: float, late: float) -> bool:
        """Look for replicas that are stuck, and for those that use too much. Whether there is something to plan for.

        late: by how much this look is (seconds): that is no replica's silence.
        """
        state, router = self._state, self._state.router()
        found = False
        for name, service in list(state.observed.sets.items()):
            want, spec = state.desired.sets.get(name), router.found(name)
            limit = spec.memory_bytes_max if spec is not None else None
            for replica in list(service.replicas.values()):
                if late:
                    replica.heard_at += min(late, now - replica.heard_at)
                what = silence(replica, want, now)
                if what is Silence.ASK:
                    replica.asked_at = now
                    self._executor.ask(replica)
                elif what is Silence.LOOK and self._executor.answered(replica):
                    state.observed.observe(replica, ReplicaHung(stuck_loop(replica, now)), now)
                    found = True
                if limit is not None and replica.pid and not replica.ending:
                    why = over_memory(self._executor.memory_bytes(replica), limit)
                    if why is not None:
                        self.kill(KillReplica(replica, why, fault=True))
                        found = True
        return found

    # -- what replicas are told -----------------------------------------------------------------------

    def _order_leavers(self) -> None:
        """Have those that drain know who takes over from them."""
        router = None
        for name, service in list(self._state.observed.sets.items()):
            order = None
            for replica in service.replicas.values():
                if replica.state is not DRAINING:
                    continue
                router = router or self._state.router()
                spec = router.found(name)
                if spec is None or spec.program:
                    break
                order = order or router.drain_order(name)
                self._executor.order(replica, order)

    def _push_routes(self, now: float) -> None:
        """Have all know what has changed of those whom they call, and of those who call them."""
        state, router = self._state, self._state.router()
        if router is self._pushed and state.routed.due == inf:
            return  # nothing has changed by which it is decided
        current = {name: router.targets(name) for name in router.live_sets()}
        unheard = state.observed.unheard()
        for name in current:
            if state.routed.told.get(name) != current[name]:
                self._check_targets(name, current[name])
        changed = state.routed.update(current, unheard, now)
        # What was asked before this is known, as by a look at a rollout, rests on what callers were told until now.
        self._pushed = router = state.router()
        several, held = False, unheard if state.routed.held(now) else set[SetName]()
        if not held:
            # While releases change, what one set has to know depends on more than those that it calls. And who reported
            # while others were waited for was told nothing: it is told now.
            live = (state.desired.current, state.desired.rollout)
            several = state.desired.rollout is not None or live != self._live
            self._live = live
        elif state.desired.rollout is not None:
            return  # both releases' doors and shares are part of what they keep
        if not changed and not several:
            return
        for name in current:
            called = router.called(name)
            if router.program(name) or (not several and not changed.intersection(called)):
                continue
            if not held.isdisjoint(called):
                continue  # what is known of one callee is less than it knows: it keeps that, and hears of all later
            told = state.told(name, router)
            for replica in state.observed.replica_set(name).replicas.values():
                if replica.state is not STARTING:
                    self._executor.push_routes(replica, told)

    def _check_targets(self, name: SetName, targets: Iterable[Target]) -> None:
        """Told all the same: whoever calls looks for another one where none answers, and has none without this."""
        found = self._state.observed.sets.get(name)
        ready = {r.slot for r in found.replicas.values() if r.state is READY and not r.ending} if found else set[int]()
        broken = targets_break(name, [target.slot for target in targets], ready)
        if broken is not None:
            self._state.broke(broken, targets)

    def greet(self, replica: Replica, now: float) -> None:
        """A replica says that it serves: tell it what holds, unless what it knows may be better than what is known."""
        state = self._state
        if not (replica.unheard and state.routed.held(now)):
            self._executor.push_routes(replica, state.told(replica.set))

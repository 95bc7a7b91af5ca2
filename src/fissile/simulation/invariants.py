"""What must never be so while releases follow each other, and what must be so at the end: all of it, in one place."""

from typing import TYPE_CHECKING

from fissile.names import ServiceName, SetName, service_of
from fissile.orchestrator.acts import Act, AdvanceRollout, BeginRollout, Change, DrainSets, EndRollout
from fissile.orchestrator.analysis import Verdict
from fissile.orchestrator.desired import Desired, Stage
from fissile.orchestrator.replica import READY
from fissile.orchestrator.rollout import served_before
from fissile.orchestrator.routing import Router
from fissile.simulation.machine import Phase, Process
from fissile.simulation.promise import Broken, Promise
from fissile.simulation.supervisor import SETTLE_SECONDS

if TYPE_CHECKING:
    from fissile.simulation.deploys import DeployWorld
    from fissile.simulation.supervisor import Supervisor
    from fissile.simulation.workload import Request


# What each stage may become.
STAGES = {
    Stage.MIGRATING: {Stage.STARTING, Stage.ROLLING_BACK},
    Stage.STARTING: {Stage.CANARY, Stage.PROMOTED, Stage.ROLLING_BACK},
    Stage.CANARY: {Stage.SCALING_UP, Stage.ROLLING_BACK},
    Stage.SCALING_UP: {Stage.PROMOTED, Stage.ROLLING_BACK},
    Stage.PROMOTED: set[Stage](),
    Stage.ROLLING_BACK: set[Stage](),
}
# Before a look, and a change is written.
WATCH_SECONDS_MORE_MAX = 2.0
# Beside what messages take, and a hold after an adoption: how long a replica may know less than is known.
STALE_SECONDS_MAX = 2.0 + SETTLE_SECONDS


def call_goes_astray(world: "DeployWorld", request: "Request", service: ServiceName, name: SetName) -> None:
    """A call of a request, or of a task that one began, is led to a set."""
    want = world.desired.sets.get(name)
    gone = want is None or not want.replicas_max
    if request.until:
        if gone and request.release not in world.cut_off:
            raise Broken(Promise.CALLEES_ARE_THERE, f"a task of {request.release} calls {name}, which is gone")
        return
    if request.cut:
        return
    if gone:
        raise Broken(Promise.CALLEES_ARE_THERE, f"a request of {request.release} calls {name}, which is gone")
    if name != world.places[request.release][service]:
        raise Broken(Promise.STAYS_IN_ITS_RELEASE, f"a request of {request.release} meets {name} of another release")


def request_begins(world: "DeployWorld", edge: Process, release: str) -> None:
    """A new request is given a release. Who has kept a connection to a door that goes ends there, in its release."""
    desired = world.desired
    rollout, going = desired.rollout, desired.going()
    if going is None or rollout is None or going.name != release or not rollout.known_at > 0.0:
        return
    if edge.set not in desired.leaving():
        raise Broken(Promise.GOING_GETS_NOTHING, f"{release} goes, and gets a request at {edge.set}")


def step_is_wrong(world: "DeployWorld", loop: "Supervisor", change: Change) -> None:
    """Before a step is written: nothing ends that a request needs, and a move goes to as many replicas as all need."""
    desired, now, step = world.desired, world.clock.now, change.what
    assert desired.rollout is not None
    if isinstance(step, DrainSets):
        _sets_are_missed(world, desired, step)
    if (
        not isinstance(step, AdvanceRollout)
        or step.stage is not Stage.PROMOTED
        or desired.rollout.stage is Stage.PROMOTED
    ):
        return
    for name in desired.rollout.specs:
        want = desired.sets[name]
        found = loop.observed.sets.get(name)
        ready = found.ready() if found is not None else 0
        if ready < want.replicas:
            raise Broken(Promise.ENOUGH_FOR_ALL, f"{name} gets all, {ready} of {want.replicas} are ready")
        before = desired.current.sets.get(service_of(name))
        if before is None or before == name or before not in desired.sets:
            continue
        needed = min(desired.sets[before].replicas, want.replicas_max)
        # It takes the autoscaler, or whoever scales both, a moment to come to the second set.
        just_now = now - world.raised_at.get(before, -1e9) < 3 * world.scale_seconds + 8 * world.write_seconds
        if want.replicas < needed and not just_now and not world.cores_used_up(name):
            raise Broken(Promise.ENOUGH_FOR_ALL, f"{name} has {want.replicas}, {before} {needed}")


def change_is_wrong(world: "DeployWorld", before: Desired, act: Act) -> None:
    """After a change: the stages follow each other, and so do the releases."""
    rollout, after = before.rollout, world.desired
    shares = after.shares()
    if abs(sum(shares.values()) - 1.0) > 1e-9 or min(shares.values()) < 0:
        raise Broken(Promise.SHARES_ARE_WHOLE, f"the shares are {shares}")
    if isinstance(act, BeginRollout):
        world.cut_off.discard(act.rollout.later.name)
    if rollout is None:
        return
    if isinstance(act, AdvanceRollout) and act.stage is not rollout.stage and act.stage not in STAGES[rollout.stage]:
        raise Broken(Promise.STAGES_FOLLOW, f"a rollout that is {rollout.stage} becomes {act.stage}")
    if isinstance(act, EndRollout):
        _last_word_is_lost(world)
        _way_back_is_wrong(world, before, act)


def _sets_are_missed(world: "DeployWorld", desired: Desired, step: DrainSets) -> None:
    rollout, going = desired.rollout, desired.going()
    assert rollout is not None
    assert going is not None
    over = world.wall() >= rollout.known_at + rollout.settle_seconds_max
    places = world.places[going.name]
    for request in world.visits.under_way:
        if request.release != going.name or request.edge.set in step.sets or request.edge.phase is Phase.DEAD:
            continue
        if over:
            request.cut = True
        elif request.at.set in step.sets or any(places[service] in step.sets for service in request.path):
            raise Broken(Promise.CALLEES_ARE_THERE, f"{step.sets} end, a request of {going.name} is on")
    if not set(step.sets) <= set(rollout.left):
        if not over:
            raise Broken(Promise.TOLD_BEFORE_THE_END, f"{step.sets} are to end before anybody was told")
        world.cut_off.add(going.name)


def _last_word_is_lost(world: "DeployWorld") -> None:
    """What a person said of a service during a rollout holds, however that ends."""
    for service, bounds in world.said.items():
        name = world.desired.current.sets.get(service)
        want = world.desired.sets.get(name) if name is not None else None
        if want is not None and (want.replicas_min, want.replicas_max) != bounds:
            raise Broken(Promise.LAST_WORD_HOLDS, f"{service} was scaled to {bounds}, and has {want}")


def watch_is_too_long(world: "DeployWorld", loop: "Supervisor") -> None:
    """Again and again: a good canary goes on by itself, though the clock on the wall is set."""
    rollout = world.desired.rollout
    if rollout is None or rollout.stage is not Stage.CANARY or rollout.back_to:
        return
    seconds = world.clock.now - max(world.staged_at, world.clock_set_at, loop.begun)
    limit = rollout.watch_seconds + WATCH_SECONDS_MORE_MAX + 8 * world.write_seconds
    if world.verdicts[rollout.later.name] is Verdict.PASSED and seconds > limit:
        raise Broken(Promise.WATCH_ENDS, f"it is watched for {seconds:.1f} s instead of {rollout.watch_seconds:.1f}")


def _way_back_is_wrong(world: "DeployWorld", before: Desired, act: EndRollout) -> None:
    """A rollback goes to the release that served before, and the next one further back."""
    rollout, line = before.rollout, world.timeline
    assert rollout is not None
    if act.done and rollout.back_to:
        while line.pop() != rollout.back_to:
            pass
    elif act.done:
        line.append(before.current.name)
    goes_to = served_before(world.desired)
    if goes_to != (line[-1] if line else ""):
        raise Broken(Promise.WAY_BACK, f"a rollback would go to {goes_to!r}, before came {line}")
    if rollout.stage is Stage.PROMOTED and served_before(before) != goes_to:
        raise Broken(Promise.WAY_BACK, "a rollback goes elsewhere once the rollout is over")


def replicas_know_less(world: "DeployWorld", loop: "Supervisor") -> None:
    """Again and again: whatever changed, all replicas are told of it soon, of the doors' other builds too."""
    now = world.clock.now
    anew = Router(loop.state.desired, loop.observed, world.specs, loop.state.routed.told)
    for name in world.desired.sets:
        found = loop.observed.sets.get(name)
        for replica in found.replicas.values() if found is not None else ():
            process = loop.by_serial[replica.serial][1]
            if process is None or not process.serves or replica.state is not READY or replica.unheard:
                continue
            wanted = loop.state.told(name).routes
            if anew.routes(name) != wanted:
                raise Broken(Promise.TOLD_WHAT_HOLDS, f"{name} is told what was true before: {wanted}")
            since, what = world.stale.get(replica.serial, (now, wanted))
            if process.knows.routes == wanted:
                world.stale.pop(replica.serial, None)
            elif what != wanted:
                world.stale[replica.serial] = now, wanted
            elif now - since > STALE_SECONDS_MAX + 2 * world.report_late_seconds:
                raise Broken(Promise.TOLD_WHAT_HOLDS, f"{replica.key} knows {process.knows}, and not {wanted}")
            else:
                world.stale[replica.serial] = since, wanted


def all_is_settled(world: "DeployWorld") -> None:
    """When nothing befell it for a while."""
    desired, loop = world.desired, world.loop
    if desired.rollout is not None:
        raise Broken(Promise.SETTLES, f"the rollout never ends: {desired.rollout}")
    if set(desired.sets) != set(desired.current.sets.values()):
        raise Broken(Promise.SETTLES, f"desired are {list(desired.sets)}, the release has {desired.current.sets}")
    left = {p.set for p in world.machine.processes.values()} - set(desired.sets)
    if left:
        raise Broken(Promise.SETTLES, f"processes of other releases are left: {left}")
    for process in world.machine.processes.values():
        service = service_of(process.set)
        if world.builds[process.release].get(service) != world.builds[desired.current.name][service]:
            raise Broken(Promise.SETTLES, f"{process.set} runs the code of {process.release}")
        if process.knows.routes.shares != {desired.current.name: 1.0}:
            raise Broken(Promise.SETTLES, f"{process.set} believes in {process.knows.routes.shares}")
    if loop is not None and set(loop.observed.sets) - set(desired.sets):
        raise Broken(Promise.SETTLES, f"sets of other releases are remembered: {list(loop.observed.sets)}")

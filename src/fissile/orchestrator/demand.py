"""What there is to do for each replica set, as callers, public doors and replicas report it."""

from collections.abc import Collection, Mapping

from fissile.names import SetName
from fissile.orchestrator.acts import Change, SetReplicas
from fissile.orchestrator.autoscale import Demand, Held, ScalingPolicy
from fissile.orchestrator.desired import Desired
from fissile.orchestrator.invariant_checks import scaling_breaks
from fissile.orchestrator.replica import Observed
from fissile.orchestrator.rollout import replica_floor
from fissile.orchestrator.spec import ScalingSpec, ServiceSpec
from fissile.orchestrator.state import ApplicationState

AUTOSCALER = "autoscaler"


def may_be_asleep(state: ApplicationState) -> list[SetName]:
    """The sets that the autoscaler has put to sleep: whether somebody knocks there is to be looked for."""
    wanted, router = state.desired.sets, state.router()
    return [n for n, want in wanted.items() if want.automatic and not want.replicas and router.found(n) is not None]


def scale(
    state: ApplicationState, knocked: Collection[SetName], *, cores: int, now: float
) -> tuple[list[Change], list[Held]]:
    """What the autoscaler changes, and what has begun or ceased to keep it from that.

    knocked: as of `demands`. cores: of the machine, that the application may use. now: monotonic seconds.
    """
    desired = state.desired
    if not any(want.automatic for want in desired.sets.values()):
        return [], []
    live = state.router().live
    if state.policies is None or state.policies[0] is not live:
        specs = live.specs()
        state.policies = live, specs, policies(desired, specs)
    _, specs, allowed = state.policies
    may = {name: policy for name, policy in allowed.items() if name not in state.paused}
    wanted = {name: want.replicas for name, want in desired.sets.items()}
    found = demands(desired, state.observed, specs, knocked)
    decisions = state.autoscaler.decide(may, wanted, found, cores=cores, now=now)
    broken = scaling_breaks(decisions, may, wanted, found, cores) if decisions else None
    if broken is not None:
        state.broke(broken, decisions)
        decisions = []  # what runs is what the machine was found to carry
    changes = [Change(AUTOSCALER, SetReplicas(one.set, one.replicas), one.reason) for one in decisions]
    return changes, list(state.autoscaler.news())


def policies(desired: Desired, specs: Mapping[SetName, ServiceSpec]) -> dict[SetName, ScalingPolicy]:
    """Between which counts the autoscaler may choose, by replica set that has a spec and for which it decides."""
    serving = set(desired.current.sets.values())
    found: dict[SetName, ScalingPolicy] = {}
    for name, want in desired.sets.items():
        if want.automatic and name in specs:
            by = specs[name].scaling or ScalingSpec()
            found[name] = ScalingPolicy(
                want.replicas_min,
                want.replicas_max,
                by.target,
                by.weight,
                by.idle_seconds,
                "" if name in serving else "rollout",
                replica_floor(desired, name),
            )
    return found


def demands(
    desired: Desired, observed: Observed, specs: Mapping[SetName, ServiceSpec], knocked: Collection[SetName]
) -> dict[SetName, Demand]:
    """The demand of each replica set that has a spec.

    knocked: the sets at whose sockets a connection waits that nobody accepts.
    """
    called: dict[SetName, int] = {}
    own: dict[SetName, _Own] = {name: _Own() for name in desired.sets}
    for name, service in observed.sets.items():
        here = own.get(name)
        for replica in service.replicas.values():
            report = replica.report
            if report is None:
                continue
            if here is not None:
                here.running += report.in_flight + report.queued
                here.requests += report.requests
            for called_set, count in report.calls.items():
                callee = SetName(called_set)
                called[callee] = called.get(callee, 0) + count
                if here is not None and count:
                    here.waiting[callee] = here.waiting.get(callee, 0.0) + count
    return {
        name: _demand(desired, observed, name, specs[name], called.get(name, 0), own[name], name in knocked)
        for name in own
        if name in specs
    }


class _Own:
    """What a set's replicas say of themselves."""

    __slots__ = ("requests", "running", "waiting")

    def __init__(self) -> None:
        self.running = self.requests = 0
        self.waiting: dict[SetName, float] = {}


def _demand(
    desired: Desired, observed: Observed, name: SetName, spec: ServiceSpec, called: int, own: _Own, knocked: bool
) -> Demand:
    want, found = desired.sets[name], observed.sets.get(name)
    ready = found.ready() if found is not None else 0
    return Demand(
        # Tools call too, and report nothing: what runs is the least that there is.
        in_flight=float(max(called, own.running) + own.requests),
        ready=ready,
        waiting=own.waiting,
        wake=want.automatic and want.replicas == 0 and knocked,
        places=ready * spec.places,
    )

"""What is desired, and the one door by which anybody alters it: a person, the autoscaler, a remedy.

A `Change` says who, what and why; `apply` is the only function that makes another `Desired` of one.
"""

import msgspec

from fissile.errors import FissileError
from fissile.names import SetName, service_of
from fissile.orchestrator import rollout as rollouts
from fissile.orchestrator.acts import (
    AbortRollout,
    AcknowledgeRoutes,
    AdvanceRollout,
    BeginRollout,
    Change,
    DrainSets,
    EndRollout,
    GiveUpRestart,
    PromoteRollout,
    RestartService,
    RetireSets,
    RolloutAct,
    ScaleService,
    SetAct,
    SetReplicas,
)
from fissile.orchestrator.desired import REPLICAS_MAX, Desired, DesiredSet, Stage
from fissile.rpc.absence import back


class ChangeRefused(FissileError):
    """A change that cannot be: the fault of whoever asked for it. Nothing was altered."""


def apply(desired: Desired, change: Change) -> Desired:
    """What is desired from now on. Raises ChangeRefused."""
    act = change.what
    if not isinstance(act, SetAct):
        return _rolled(desired, act, str(change.why))
    service = desired.sets.get(act.set)
    if service is None:
        raise ChangeRefused(f"there is no service {act.set!r}", remedy=f"there are: {', '.join(desired.sets)}")
    if isinstance(act, ScaleService):
        return _all_scaled(desired, act, change.who)
    if isinstance(act, SetReplicas):
        if service.zero_by:
            raise ChangeRefused(f"{act.set} is scaled to zero by {service.zero_by}", remedy=back(act.service))
        replicas = min(max(act.replicas, service.replicas_min), service.replicas_max)
        service = msgspec.structs.replace(service, replicas=replicas)
    else:
        if isinstance(act, RestartService) and service.zero_by:
            raise ChangeRefused(
                f"{act.service} is scaled to zero by {service.zero_by}: there is nothing to restart",
                remedy=back(act.service),
            )
        if isinstance(act, GiveUpRestart) and service.revision != act.instead_of:
            raise ChangeRefused(
                f"this restart of {act.service} is over",
                remedy="see `fissile history` for what came after it",
            )
        service = _restarted(service, act)
    return msgspec.structs.replace(desired, sets={**desired.sets, act.set: service})


def _restarted(service: DesiredSet, act: RestartService | GiveUpRestart) -> DesiredSet:
    """Whoever gives a restart up goes back to the zygote of the replicas that stay."""
    if isinstance(act, GiveUpRestart):
        zygote = service.zygote_before or service.zygote
        return msgspec.structs.replace(service, revision=act.revision, zygote=zygote, zygote_before="")
    return msgspec.structs.replace(
        service, revision=act.revision, zygote=act.zygote or service.zygote, zygote_before=service.zygote
    )


def _rolled(desired: Desired, act: RolloutAct, why: str) -> Desired:
    rollout = desired.rollout
    if isinstance(act, BeginRollout):
        if rollout is not None:
            raise ChangeRefused(f"rollout {rollout.number} is under way", remedy="wait for its end, or abort it")
        return rollouts.begun(desired, act.rollout)
    if rollout is None:
        raise ChangeRefused("no rollout is under way", remedy="`fissile deploy` begins one")
    if act.number not in (None, rollout.number):
        raise ChangeRefused(
            f"rollout {act.number} is over: {rollout.number} is under way", remedy="see `fissile status`"
        )
    if isinstance(act, AcknowledgeRoutes):
        return rollouts.known(desired, act.now)
    if isinstance(act, RetireSets):
        return rollouts.left(desired, act.sets)
    if isinstance(act, DrainSets):
        return rollouts.cleared(desired, act.sets)
    if isinstance(act, EndRollout):
        return rollouts.ended(desired)
    stage = act.stage if isinstance(act, AdvanceRollout) else Stage.SCALING_UP
    if isinstance(act, AdvanceRollout) and act.leaves is not rollout.stage:
        raise ChangeRefused(
            f"rollout {rollout.number} is {rollout.stage}, and not {act.leaves} any more", remedy="look at it again"
        )
    if isinstance(act, PromoteRollout) and rollout.stage is not Stage.CANARY:
        raise ChangeRefused(
            f"rollout {rollout.number} is {rollout.stage}: only one that is watched can be promoted",
            remedy="see `fissile status`",
        )
    if isinstance(act, AbortRollout):
        if rollout.stage not in rollouts.UNDECIDED:
            what = (
                "its requests are already going back" if rollout.stage is Stage.ROLLING_BACK else "it has all requests"
            )
            raise ChangeRefused(f"rollout {rollout.number} cannot be aborted: {what}", remedy="see `fissile rollback`")
        stage = Stage.ROLLING_BACK
    return rollouts.entered(desired, stage, why, act.now)


def _all_scaled(desired: Desired, act: ScaleService, who: str) -> Desired:
    """A person means the service: all its sets, and what a rollout has in store for it, or would go back to.

    But what is about to end has no replica any more, though somebody has just counted it in.
    """
    ended = {name for name in desired.leaving() if name in desired.sets and not desired.sets[name].replicas_max}

    def scaled(wants: dict[SetName, DesiredSet]) -> dict[SetName, DesiredSet]:
        meant = {name for name in wants if service_of(name) == act.service} - ended
        return {name: _scaled(want, act, who) if name in meant else want for name, want in wants.items()}

    rollout = desired.rollout
    if rollout is not None:
        rollout = msgspec.structs.replace(
            rollout, specs=scaled(rollout.specs), previous_specs=scaled(rollout.previous_specs)
        )
    return msgspec.structs.replace(desired, sets=scaled(desired.sets), rollout=rollout)


def _scaled(service: DesiredSet, act: ScaleService, who: str) -> DesiredSet:
    low, high = act.replicas_min, act.replicas_max
    if not 0 <= low <= high or high > REPLICAS_MAX:
        raise ChangeRefused(
            f"{act.service} cannot have {low}..{high} replicas",
            remedy=f"say N or MIN..MAX, from 0 to {REPLICAS_MAX}",
        )
    if high > service.most:
        raise ChangeRefused(
            f"{act.service} cannot have {high} replicas: its `port` is fixed, and only one can have it",
            remedy='leave `port` out, so that each gets one, or share it with `ports = "inherited"` or `"reuseport"`',
        )
    if high == 0:
        return msgspec.structs.replace(service, replicas=0, zero_by=who)
    return msgspec.structs.replace(
        service, replicas=min(max(service.replicas, low), high), replicas_min=low, replicas_max=high, zero_by=""
    )

"""What may alter the desired state: each act by a person, the autoscaler, a rollout or a remedy.

A rollout's next step is one of these acts itself. `change.apply` says what becomes of each.
"""

import msgspec

from fissile.names import OfSet, SetName
from fissile.orchestrator.desired import Rollout, Stage
from fissile.orchestrator.reasons import Reason

# Who decides by itself: the reconciler and the rollout controller.
ACTOR = "fissile"


class ScaleService(OfSet, frozen=True, tag=True):
    """So many replicas, or as many as the autoscaler finds right between two bounds.

    0..0 is none until somebody scales it again; the bounds that it had stay.
    """

    replicas_min: int
    replicas_max: int


class SetReplicas(OfSet, frozen=True, tag=True):
    """The autoscaler's own: so many replicas now, within the bounds."""

    replicas: int


class RestartService(OfSet, frozen=True, tag=True):
    """New replicas instead of those that are there. revision: above that of all there are.

    zygote: by which they are made; "": by the same as so far.
    """

    revision: int
    zygote: str = ""


class GiveUpRestart(OfSet, frozen=True, tag=True):
    """The replicas that are there stay, because new ones do not come up.

    revision: of the former. instead_of: of the latter; a restart that somebody has wanted since goes on.
    """

    revision: int
    instead_of: int


class BeginRollout(msgspec.Struct, frozen=True, tag=True):
    """Move the requests to another release."""

    rollout: Rollout


class AdvanceRollout(msgspec.Struct, frozen=True, tag=True):
    """It goes on to another stage. now: seconds of the wall clock. number and leaves: which rollout is meant, in
    which stage: what was decided of another state of things is refused.
    """

    stage: Stage
    now: float
    number: int
    leaves: Stage


class PromoteRollout(msgspec.Struct, frozen=True, tag=True):
    """A person says that what is watched is good. number: of the rollout that is meant; None: of any."""

    now: float
    number: int | None = None


class AbortRollout(msgspec.Struct, frozen=True, tag=True):
    """A person, or a newer deploy, gives it up. number: of the rollout that is meant; None: of any."""

    now: float
    number: int | None = None


class AcknowledgeRoutes(msgspec.Struct, frozen=True, tag=True):
    """No new request gets the release that goes: those that it has may take their time from `now` on (wall clock)."""

    number: int
    now: float


class RetireSets(msgspec.Struct, frozen=True, tag=True):
    """No request calls these sets of the release that goes any more: what does so in its name takes the usual way."""

    sets: tuple[SetName, ...]
    number: int


class DrainSets(msgspec.Struct, frozen=True, tag=True):
    """These replica sets of the release that goes are to end."""

    sets: tuple[SetName, ...]
    number: int


class EndRollout(msgspec.Struct, frozen=True, tag=True):
    """It is over. done: all requests are with the later release; else nothing is left of that."""

    number: int
    done: bool


RolloutAct = (
    BeginRollout
    | AdvanceRollout
    | PromoteRollout
    | AbortRollout
    | AcknowledgeRoutes
    | RetireSets
    | DrainSets
    | EndRollout
)
SetAct = ScaleService | SetReplicas | RestartService | GiveUpRestart
Act = SetAct | RolloutAct


class Change(msgspec.Struct, frozen=True):
    """Who alters what, and why: a person in words, code by a Reason."""

    who: str
    what: Act
    why: Reason | str

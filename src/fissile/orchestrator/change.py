"""What is desired, and the one door by which anybody alters it: a person, the autoscaler, a remedy.

A `Change` says who, what and why; `apply` is the only function that makes another `Desired` of one.
"""

from collections.abc import Mapping

import msgspec

from fissile.errors import FissileError

REPLICAS_MAX = 1000


class ChangeRefused(FissileError):
    """A change that cannot be: the fault of whoever asked for it. Nothing was altered."""


class DesiredService(msgspec.Struct, frozen=True):
    """How a service should be.

    replicas: wanted now, by a person or the autoscaler, within minimum and maximum. revision: replicas
    of a lower one are replaced. The seconds are limits: until ready; without a sign of life; for
    finishing what is in flight; and for stopping the components after that. overlap: whether a new replica may
    run beside the one that it replaces.
    """

    replicas: int = 1
    replicas_min: int = 1
    replicas_max: int = 1
    revision: int = 1
    start_seconds_max: float = 30.0
    silent_seconds_max: float = 10.0
    drain_seconds_max: float = 10.0
    stop_seconds_max: float = 5.0
    overlap: bool = True

    @property
    def automatic(self) -> bool:
        """Whether the autoscaler decides."""
        return self.replicas_min < self.replicas_max


class Desired(msgspec.Struct, frozen=True):
    """How all services should be."""

    services: dict[str, DesiredService] = {}


class ScaleService(msgspec.Struct, frozen=True, tag=True):
    """So many replicas, or as many as the autoscaler finds right between two bounds."""

    service: str
    replicas_min: int
    replicas_max: int


class SetReplicas(msgspec.Struct, frozen=True, tag=True):
    """The autoscaler's own: so many replicas now, within the bounds."""

    service: str
    replicas: int


class RestartService(msgspec.Struct, frozen=True, tag=True):
    """New replicas instead of those that are there. revision: above that of all there are."""

    service: str
    revision: int


class GiveUpRestart(msgspec.Struct, frozen=True, tag=True):
    """The replicas that are there stay, because new ones do not come up."""

    service: str
    revision: int


Act = ScaleService | SetReplicas | RestartService | GiveUpRestart


class Change(msgspec.Struct, frozen=True):
    """Who alters what, and why."""

    who: str
    what: Act
    why: str


def apply(desired: Desired, change: Change) -> Desired:
    """What is desired from now on. Raises ChangeRefused."""
    act = change.what
    service = desired.services.get(act.service)
    if service is None:
        raise ChangeRefused(
            f"there is no service {act.service!r}", remedy=f"those there are: {', '.join(desired.services)}"
        )
    if isinstance(act, ScaleService):
        service = _scaled(service, act)
    elif isinstance(act, SetReplicas):
        replicas = min(max(act.replicas, service.replicas_min), service.replicas_max)
        service = msgspec.structs.replace(service, replicas=replicas)
    else:
        service = msgspec.structs.replace(service, revision=act.revision)
    services: Mapping[str, DesiredService] = {**desired.services, act.service: service}
    return Desired(dict(services))


def _scaled(service: DesiredService, act: ScaleService) -> DesiredService:
    low, high = act.replicas_min, act.replicas_max
    if not 0 <= low <= high or high > REPLICAS_MAX:
        raise ChangeRefused(
            f"{act.service} cannot have {low}..{high} replicas", remedy=f"say N or MIN..MAX, from 0 to {REPLICAS_MAX}"
        )
    return msgspec.structs.replace(
        service, replicas=min(max(service.replicas, low), high), replicas_min=low, replicas_max=high
    )

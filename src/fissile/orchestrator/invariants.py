"""What must never be so, checked in production where it could come to be so: the names.

`invariant_checks` has the checks. What is broken is an internal error. It is told once for each invariant, with the
state in which it was found, and the loop goes on: docs/reference/invariants.md says what becomes of the action.
"""

from enum import StrEnum

import msgspec

from fissile.names import SetName


class Invariant(StrEnum):
    """By name; in words, what must be so."""

    REPLICA_STATES = "a replica's states are one-way"
    ROLLOUT_STAGES = "a rollout's stages follow each other"
    SERIALS = "a serial is never given twice"
    KNOWN_SETS = "every replica set belongs to a live release"
    READY_TARGETS = "callers are led to ready replicas, where there are any"
    START_BUDGET = "no more replicas start at once than may, and two at most are in a slot"
    SCALE_BUDGET = "the autoscaler gives no more than the cores and the bounds allow"


class Broken(msgspec.Struct, frozen=True):
    """An invariant that does not hold. what: in words. set: whose, if it is that of one."""

    invariant: Invariant
    what: str
    set: SetName = SetName("")

"""The promises of the platform: what no simulated world may ever break, each by its name."""

from enum import StrEnum


class Promise(StrEnum):
    """What must never be so, whatever befalls a world; and, at the end, what must have become so."""

    PLAN_ENDS = "a plan comes to an end"
    AS_MANY_AS_WANTED = "no set has more replicas than are wanted, but for those that replace others"
    ONE_IN_A_SLOT = "a slot has one replica of a revision"
    CORES_ARE_SHARED = "no more replicas are added than there are cores"
    NOBODY_SHRINKS_BLIND = "no successor takes away what it has not watched, and is needed"
    WORK_IS_FINISHED = "who finishes its work is not killed before its time"
    TARGETS_SERVE = "callers are led to where somebody serves"
    TOLD_WHAT_HOLDS = "replicas know what holds"
    CALLEES_ARE_THERE = "no set ends that somebody still calls"
    GOING_GETS_NOTHING = "no new request gets a release that goes, once all know of it"
    STAYS_IN_ITS_RELEASE = "a request stays in its release"
    MIGRATES_FIRST = "no replica starts before the migrations of its build"
    MIGRATES_ONCE = "what is migrated is not migrated again"
    ENOUGH_FOR_ALL = "all requests move to as many replicas as they need"
    SHARES_ARE_WHOLE = "each new request gets one release"
    STAGES_FOLLOW = "the stages of a rollout follow each other"
    TOLD_BEFORE_THE_END = "sets end once all know of it"
    LAST_WORD_HOLDS = "what a person said of a service holds"
    WATCH_ENDS = "a good canary goes on by itself, in its time"
    WAY_BACK = "a rollback goes to what served before"
    NOTHING_IS_BROKEN = "the supervisor finds none of its own invariants broken"
    SETTLES = "the world becomes as it is desired"


class Broken(AssertionError):
    """A promise is broken. promise: which."""

    def __init__(self, promise: Promise, what: str) -> None:
        super().__init__(f"{promise}: {what}")
        self.promise = promise

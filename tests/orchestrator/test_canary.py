"""A canary is judged by what both releases have answered since its watch began."""

from fissile.orchestrator.analysis import Analysis, Verdict
from fissile.orchestrator.canary import CanaryWatch
from fissile.orchestrator.desired import LiveRelease, Rollout
from fissile.orchestrator.reasons import Said, TooFewRequests
from fissile.orchestrator.replica import Observed, Replica, ReplicaEnded, ReplicaReady, ReplicaReported
from fissile.runtime.control import Heartbeat, ReplicaHello, Traffic
from fissile.telemetry.aggregate import Answers

NEW, OLD = "new", "old"


class Watched:
    """A rollout that is watched, and the replicas at its door."""

    def __init__(self) -> None:
        self.observed = Observed()
        self.watch = CanaryWatch()
        self.number = 1

    def door(self) -> Replica:
        replica = self.observed.begin("shop", 0, 1, "build", 0.0)
        self.observed.observe(replica, ReplicaReady(), 0.0)
        return replica

    def answered(self, replica: Replica, **counts: tuple[int, int]) -> None:
        """It reports what it has answered since it began. counts: answers and errors, by release."""
        hello = ReplicaHello("shop", "shop", 0, replica.serial, 1, "build", OLD)
        traffic = {name: Traffic(0, Answers(count, errors)) for name, (count, errors) in counts.items()}
        self.observed.observe(replica, ReplicaReported(Heartbeat(hello, 0.0, 0, traffic=traffic)), 1.0)

    def look(self) -> Analysis:
        rollout = Rollout(self.number, LiveRelease(NEW), {})
        return self.watch.look(rollout, LiveRelease(OLD), self.observed)


def test_what_was_answered_before_the_watch_does_not_count():
    world = Watched()
    door = world.door()
    world.answered(door, new=(500, 400), old=(900, 0))
    assert world.look() == Analysis(Verdict.INCONCLUSIVE, TooFewRequests(later=True, count=0, needed=30))
    world.answered(door, new=(600, 400), old=(1000, 0))
    assert world.look().verdict is Verdict.PASSED
    assert str(world.look().reason).startswith("0 of 100 requests failed (old release: 0 of 100)")


def test_what_a_replica_answered_counts_after_its_end():
    world = Watched()
    gone, stays = world.door(), world.door()
    world.look()
    world.answered(gone, new=(100, 90), old=(100, 0))
    world.look()
    world.observed.observe(gone, ReplicaEnded(Said("ended")), 2.0)
    world.answered(stays, new=(1, 0), old=(1, 0))
    found = world.look()
    assert found.verdict is Verdict.FAILED
    assert "90 of 101" in str(found.reason)


def test_the_next_rollout_begins_to_count_anew():
    world = Watched()
    door = world.door()
    world.look()
    world.answered(door, new=(100, 100), old=(100, 0))
    assert world.look().verdict is Verdict.FAILED
    world.number = 2
    assert world.look().verdict is Verdict.INCONCLUSIVE

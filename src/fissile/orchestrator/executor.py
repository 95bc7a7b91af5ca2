"""The verbs of a machine: all that the reconciler asks of the world in which replicas run.

Linux implements them (`supervisor`), and so does the simulation. Each returns at once: what comes of it is observed, or
is never heard of, and then the reconciler finds out by what it does not hear.
"""

from typing import Protocol

from fissile.orchestrator.reasons import Reason
from fissile.orchestrator.replica import Replica
from fissile.orchestrator.routing import DrainOrder, Told


class Executor(Protocol):
    """One machine."""

    def start(self, replica: Replica, reason: Reason) -> None:
        """Make its process. `ReplicaReady` follows, or `ReplicaEnded`."""
        ...

    def drain(self, replica: Replica, reason: Reason) -> None:
        """Have a replica that was drained just now finish its work and end."""
        ...

    def order(self, replica: Replica, order: DrainOrder) -> None:
        """Tell a replica that drains how long it has, and who takes over; said again and again, mostly the same."""
        ...

    def stop(self, replica: Replica, reason: Reason) -> None:
        """Ask it by signal to end."""
        ...

    def kill(self, replica: Replica, reason: Reason, *, fault: bool) -> None:
        """End it at once. fault: it has not done what it should have."""
        ...

    def explain(self, replica: Replica) -> str:
        """What a replica that has used up its time to start is missing, in words; "" where nobody knows."""
        ...

    def push_routes(self, replica: Replica, told: Told) -> None:
        """Have it apply routes, unless it was told these already. Its report says once it has."""
        ...

    def ask(self, replica: Replica) -> None:
        """Have a silent replica write where it stands."""
        ...

    def answered(self, replica: Replica) -> bool:
        """Whether a replica that was asked has written where it stands, and not taken that back: it is stuck."""
        ...

    def memory_bytes(self, replica: Replica) -> int | None:
        """How much memory a replica uses; None where nobody knows, or where the system keeps it to its limit."""
        ...

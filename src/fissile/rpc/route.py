"""Which channel a call takes: a request stays in the release that it was given, in every hop.

While a rollout is under way, two releases have requests, and may mean two replica sets by the same
component. In the steady state, and for callees that both releases share, there is one channel.
"""

from typing import Generic, TypeVar

C = TypeVar("C")


class Route(Generic[C]):
    """From a caller to a component. channel: the usual one. others: by the releases that take another."""

    __slots__ = ("channel", "others")

    def __init__(self, channel: C) -> None:
        self.channel = channel
        self.others: dict[str, C] = {}

    def set_targets(self, channel: C, others: dict[str, C]) -> None:
        """Take these channels from now on."""
        self.channel = channel
        self.others = {release: other for release, other in others.items() if other is not channel}

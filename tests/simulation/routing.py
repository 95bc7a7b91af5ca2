"""What replicas know of releases, and what they say of that, in worlds in which releases follow each other."""

import msgspec


class Routing(msgspec.Struct, frozen=True):
    """What the replicas of one set know, as `runtime.control.Routes`.

    usual: the release of calls whose release has no way. ways: release → service → replica set. shares: of the releases
    of new requests that stay here. elsewhere: serials of the other build's replicas that take connections, and their
    share of them.
    """

    version: int
    usual: str
    ways: dict[str, dict[str, str]]
    shares: dict[str, float]
    elsewhere_share: float = 0.0
    elsewhere: tuple[int, ...] = ()


class Beat(msgspec.Struct, frozen=True):
    """What a replica reports: the version that it has applied, and the releases that requests are under way in."""

    version: int
    pinned: tuple[str, ...]

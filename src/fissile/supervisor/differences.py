"""What would be different across a wire, as replicas reported it: by service and build.

A build is the same code wherever it runs, so what was seen of it outlives replicas, releases and supervisors.
"""

from collections.abc import Collection, Iterable

import msgspec

from fissile.names import ServiceName, set_name
from fissile.runtime.control import WireDifference

# Of one build, whatever its replicas say.
DIFFERENCES_MAX = 100


class Differences:
    """Of one application."""

    def __init__(self) -> None:
        self._found: dict[str, list[WireDifference]] = {}

    def add(self, service: ServiceName, build: str, found: Iterable[WireDifference]) -> list[WireDifference]:
        """Remember these; returns those that are new."""
        known = self._found.setdefault(set_name(service, build), [])
        new = [one for one in dict.fromkeys(found) if one not in known][: DIFFERENCES_MAX - len(known)]
        known += new
        return new

    def of(self, service: ServiceName, build: str) -> tuple[WireDifference, ...]:
        """What is known of a service at a build."""
        return tuple(self._found.get(set_name(service, build), ()))

    def encode(self, kept: Collection[str]) -> bytes:
        """For the next supervisor. kept: the builds that are of interest, by `set_name`; others are forgotten."""
        self._found = {name: found for name, found in self._found.items() if name in kept}
        return msgspec.msgpack.encode(self._found)

    def decode(self, data: bytes) -> None:
        """What an earlier supervisor knew."""
        self._found = msgspec.msgpack.decode(data, type=dict[str, list[WireDifference]])

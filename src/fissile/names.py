"""Names of services and of their replica sets. They are strings that a type keeps apart.

A replica set is the replicas of one service at one build, named "cart@1a2b3c4d".
"""

from typing import NewType

import msgspec

SEPARATOR = "@"
BUILD_CHARACTERS = 8

ServiceName = NewType("ServiceName", str)
SetName = NewType("SetName", str)


def set_name(service: str, build: str) -> SetName:
    """The name of a service's replica set at a build."""
    return SetName(f"{service}{SEPARATOR}{build[:BUILD_CHARACTERS]}")


def service_of(name: SetName) -> ServiceName:
    """The service that a replica set belongs to."""
    return ServiceName(name.partition(SEPARATOR)[0])


class OfSet(msgspec.Struct, frozen=True):
    """What concerns one replica set."""

    set: SetName

    @property
    def service(self) -> ServiceName:
        """Whose replica set it is."""
        return service_of(self.set)

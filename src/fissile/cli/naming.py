"""Which service a name means: a service's own, or that of a component in it."""

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from fissile.cli.arguments import guess
from fissile.errors import ConfigError

if TYPE_CHECKING:
    from fissile.api.client import Client


def service_meant(given: str, client: "Client") -> str:
    """The service that a name means in the application that runs. Raises ConfigError, Refused."""
    return service_named(given, {one.name: one.components for one in client.status().services})


def service_named(given: str, services: Mapping[str, Collection[str]]) -> str:
    """The service of that name, or the one that holds the component of that name; case matters.

    services: their components by name. Raises ConfigError if there is none, or the component is in several.
    """
    if given in services:
        return given
    holders = [service for service, components in services.items() if given in components]
    if len(holders) == 1:
        return holders[0]
    if holders:
        raise ConfigError(f"{given} is in several services: {', '.join(holders)}", remedy="name one of them")
    raise unknown(given, services)


def unknown(given: str, services: Mapping[str, Collection[str]]) -> ConfigError:
    """The error for a name that is neither a service's nor a component's."""
    names = [*services, *(component for components in services.values() for component in components)]
    return ConfigError(
        f"there is no service {given!r}{guess(given, names)}",
        remedy=f"there are: {', '.join(services)}" if services else "there are no services yet",
    )

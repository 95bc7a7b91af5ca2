"""PURE. Which service somebody means who names one, or the component that is in it."""

from collections.abc import Collection, Mapping

from fissile.cli.arguments import guess
from fissile.errors import ConfigError


def service_named(given: str, services: Mapping[str, Collection[str]]) -> str:
    """The service of that name, or the one that holds the component of that name; case matters.

    services: their components by name. Raises ConfigError where there is none, or the component is in several.
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
    """The error of whoever names what is neither a service nor a component."""
    names = [*services, *(component for components in services.values() for component in components)]
    return ConfigError(
        f"there is no service {given!r}{guess(given, names)}",
        remedy=f"there are: {', '.join(services)}" if services else "there is no service yet",
    )

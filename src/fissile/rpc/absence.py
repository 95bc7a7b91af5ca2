"""PURE. A service that has no replica because somebody wants it so: what callers and people are told."""

from fissile.errors import Unavailable


def back(service: str) -> str:
    """How a service that is scaled to zero comes back."""
    return f"`fissile scale {service} 1` brings it back"


def absent(service: str, away: str) -> Unavailable:
    """The error of a call to it. away: why, as "is scaled to zero by ann"."""
    return Unavailable(f"{service} {away}", remedy=back(service))

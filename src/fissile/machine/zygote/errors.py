"""What can go wrong between a supervisor and its zygotes."""

from fissile.errors import ConfigError, FissileError, StartError


class ForkError(FissileError):
    """A replica could not be forked: the machine refused it, or the zygote died."""


class LoadDied(ForkError, StartError):
    """The zygote died while it imported the application."""


class ZygoteHung(ForkError):
    """The zygote did not answer, and was killed before it took the order."""


class OtherFissile(ForkError, ConfigError):
    """A zygote and its replicas belong to another version of Fissile. None of them was touched."""


def zygote_died() -> ForkError:
    """Return the error of everybody who was waiting for a zygote that died."""
    return ForkError("the zygote died", remedy="see the log for its last words; another one is started")

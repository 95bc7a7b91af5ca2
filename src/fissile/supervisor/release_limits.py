"""The limits of services on this machine, and access for the other users that they run as."""

import os
from pathlib import Path

from fissile.errors import ConfigError
from fissile.machine.limits import Enforcement, Limits, detect, limits_of
from fissile.rpc.access import token_digest
from fissile.settings.schema import FILE_NAME, Settings
from fissile.supervisor.state_folder import StateFolder


class ReleaseLimits:
    """Resolves the limits that settings ask for. enforcement: what this machine keeps replicas to them by.

    The machine is looked at when the first limit is asked for: an application without limits needs no control groups.
    """

    def __init__(self, folder: StateFolder) -> None:
        self.enforcement = Enforcement()
        self._folder = folder
        self._detected = False

    def resolve(self, settings: Settings, root: Path) -> dict[str, Limits]:
        """Limits by service. root: the application's folder. Raises ConfigError where they do not fit this machine.

        Where services run as other users, these are let in to what they need of the state folder.
        """
        state = str(self._folder.path.resolve())
        found: dict[str, Limits] = {}
        mistakes: list[ConfigError] = []
        for name, one in settings.services.items():
            try:
                found[name] = limits_of(name, one.limits, str(root), isolate=one.isolate, user=one.user, state=state)
            except ConfigError as error:
                mistakes.append(error)
        if mistakes:
            raise ConfigError("\n".join(error.message for error in mistakes), remedy=mistakes[0].remedy)
        if any(limits.user is not None for limits in found.values()):
            self._folder.share()
            self._share_code(settings)
        elif os.geteuid() == 0 and any(one.command for one in settings.services.values()):
            # A program that root starts may become another user, as PostgreSQL has to: it reads what it could before.
            self._share_code(settings, like=root)
        if any(limits.grouped for limits in found.values()) and not self._detected:
            self._detected = True
            self.enforcement = detect(token_digest(state)[:12])
        return found

    def _share_code(self, settings: Settings, like: Path | None = None) -> None:
        code = Path(settings.root).resolve()
        if code.is_relative_to(self._folder.path.resolve()):
            self._folder.share_copy(code, but=(FILE_NAME, settings.file), like=like)

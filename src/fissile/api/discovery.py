"""Finds the application that runs in a folder, by the file endpoints.json that its supervisor wrote.

Also of an application without a supervisor: one process in the foreground, or services that go on without theirs.
"""

from pathlib import Path

import msgspec

from fissile.errors import ConfigError
from fissile.formats import ENDPOINTS as FORMAT
from fissile.machine.procfs import still_there
from fissile.supervisor.endpoints import ENDPOINTS, nothing_runs, state_of
from fissile.supervisor.endpoints import Endpoints as Endpoints
from fissile.supervisor.endpoints import NotServed as NotServed
from fissile.supervisor.endpoints import ServiceEndpoints as ServiceEndpoints
from fissile.supervisor.endpoints import lives as lives


class OtherEndpoints(NotServed):
    """What runs was started by another version of Fissile. supervised: whether its supervisor lives."""

    def __init__(self, file: Path, by: str, pid: int, *, supervised: bool) -> None:
        super().__init__(
            f"what runs was started by {by}: see {file}",
            remedy=f"use that version; or end it in order with `kill {pid}`, and start it with this one"
            if supervised
            else "use that version, whose `up` takes it over; or end it with the `fissile down` of that one (in order) "
            "or of this one (in no order)",
            state="other version",
        )
        self.supervised = supervised


class _Head(msgspec.Struct, frozen=True):
    """What every version says, with the same meaning. One without a format is of the first."""

    format: int = 1
    fissile: str = ""
    pid: int = 0
    born: int | None = None
    zygote: int | None = None
    zygote_born: int | None = None
    births: dict[int, int] = {}

    def refuse(self, file: Path, root: Path) -> None:
        """Raises OtherEndpoints where another version wrote it; NotServed where nothing of that is left."""
        if FORMAT.reads(self.format):
            return
        supervised = bool(self.pid) and lives(self.pid, self.born)
        adopted = self.zygote is not None and lives(self.zygote, self.zygote_born)
        if not supervised and not adopted and not still_there(self.births):
            raise nothing_runs(root)
        raise OtherEndpoints(file, FORMAT.strange(self.format, self.fissile), self.pid, supervised=supervised)


def read_endpoints(root: Path) -> Endpoints:
    """What runs in an application's folder. Raises ConfigError if nothing does, or another version started it.

    Its supervisor may be dead: see `supervised`.
    """
    file = state_of(root) / ENDPOINTS
    try:
        data = file.read_bytes()
        msgspec.json.decode(data, type=_Head).refuse(file, root)
        found = msgspec.json.decode(data, type=Endpoints)
    except (FileNotFoundError, NotADirectoryError):
        raise nothing_runs(root) from None
    except PermissionError:
        raise ConfigError(f"{file} belongs to somebody else", remedy="be the user who started it") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} cannot be read: {error}", remedy="start the application anew") from None
    if not found.supervisor_lives() and not found.zygote_lives() and not still_there(found.births):
        raise nothing_runs(root)
    if found.copied_to(file.parent):
        raise NotServed(
            f"nothing runs in {root.resolve()}, which is a copy of a folder whose application runs (pid {found.pid})",
            remedy="start this one as well with `fissile up`, or name the folder of the other with -C",
            state="stopped",
        )
    return found


def supervised(root: Path) -> Endpoints:
    """The endpoints of what runs in a folder, with a living supervisor. Raises ConfigError."""
    found = read_endpoints(root)
    if not found.supervisor_lives():
        adopted = found.zygote_lives()
        dead = f"the supervisor of {found.application} (pid {found.pid})"
        raise NotServed(
            f"{dead if adopted else f'{dead} and its zygote'} died; its services go on without it",
            remedy="`fissile up` starts another, which takes them over"
            if adopted
            else "`fissile up` ends them in order and starts them anew; `fissile down` ends them",
            state="unsupervised",
        )
    if found.stopping:
        raise NotServed(
            f"{found.application} is stopping (pid {found.pid}), and takes no orders any more",
            remedy="`fissile down` waits until all has ended; `fissile up` starts it then",
            state="stopping",
        )
    if not found.api and (found.background or found.zygote):
        raise NotServed(
            f"{found.application} is starting (pid {found.pid}), and takes no orders yet",
            remedy="ask again when all its services are ready; `fissile logs` shows what they print",
            state="starting",
        )
    if not found.api:
        raise NotServed(
            f"{found.application} runs as one process (pid {found.pid}): nothing supervises it",
            remedy="stop it where it runs, with Ctrl-C, and start it with `fissile up`",
            state="foreground",
        )
    return found

"""The API's client: typed by the schema, over the Unix socket, or over TCP with the token where that is gone.

It imports nothing that starts slowly: a command that only looks has to be there at once.
"""

import os
import socket
import struct
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

import msgspec

from fissile.api.discovery import supervised
from fissile.api.http import Answer, Broken, ask
from fissile.api.schema import (
    Called,
    DecideOrder,
    Deploy,
    DeployOrder,
    Done,
    DownOrder,
    Entry,
    Outcome,
    Problem,
    ReleaseInfo,
    Restarted,
    RestartOrder,
    RollbackOrder,
    ScaleOrder,
    SupervisorStatus,
)
from fissile.errors import ProcessError
from fissile.machine.procfs import VARIABLE
from fissile.rpc.paths import addressed

T = TypeVar("T")

CONNECT_SECONDS_MAX = 5
# A deploy imports the code before it answers.
ANSWER_SECONDS_MAX = 300.0
# Every service, one after another, each of which finishes its work.
RESTART_SECONDS_MAX = 3600.0
# What is only looked at is there at once.
LOOK_SECONDS_MAX = 15.0
# From the closing of its sockets to the end of a process that was killed.
DEATH_SECONDS_MAX = 0.5
POLL_SECONDS = 0.02
TEXT_CHARACTERS_SHOWN = 500


class Refused(ProcessError):
    """The supervisor refused, in its own words. service, last_lines: of a process that did not start."""


class Client:
    """The API of the supervisor in a folder.

    Making one raises ConfigError if nothing takes orders there. Every method raises Refused if the supervisor refuses,
    or does not answer; and NotServed if it has ended meanwhile.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self.endpoints = supervised(root)

    def __repr__(self) -> str:
        return f"<Client of {self.endpoints.application} (pid {self.endpoints.pid}) in {self._root}>"

    # -- look -------------------------------------------------------------------------------------

    def status(self) -> SupervisorStatus:
        """What runs now."""
        return self._get("/status", SupervisorStatus)

    def history(self, *, service: str = "", after: int = 0, limit: int = 100) -> list[Entry]:
        """The newest entries, oldest first. service: "" for all. after: only those with a greater id."""
        return self._get(f"/history?limit={limit}&after={after}&service={service}", list[Entry])

    def events(self, *, service: str = "", after: int = 0) -> Iterator[Entry]:
        """Entries as they are recorded, without end."""
        with self._told(ANSWER_SECONDS_MAX):
            answer = self._open("GET", f"/events?after={after}&service={service}", b"", ANSWER_SECONDS_MAX)
            for line in answer.lines():
                if line.startswith(b"data: "):
                    yield msgspec.json.decode(line[6:], type=Entry)

    def release(self, name: str = "") -> msgspec.Raw:
        """The running release, or a kept one by its name, as the JSON of `releases.release.Release`."""
        return self._get(f"/release?name={name}" if name else "/release", msgspec.Raw)

    def releases(self) -> list[ReleaseInfo]:
        """The kept releases, newest first."""
        return self._get("/releases", list[ReleaseInfo])

    def callers(self) -> dict[str, Called]:
        """When methods were called from outside, by "Component.method"."""
        return self._get("/callers", dict[str, Called])

    def outcome(self, number: int) -> Outcome:
        """How a rollout stands."""
        return self._get(f"/rollouts/{number}", Outcome)

    # -- change -----------------------------------------------------------------------------------

    def deploy(self, order: DeployOrder) -> Deploy:
        """Begin a rollout of the code in the folder."""
        return self._post("/deploy", order, Deploy)

    def rollback(self, order: RollbackOrder) -> Deploy | None:
        """Begin a rollout of an earlier release. None: it aborted the rollout under way instead."""
        found = self._post("/rollback", order, msgspec.Raw)
        return msgspec.json.decode(found, type=Deploy) if bytes(found) != b"{}" else None

    def promote(self, order: DecideOrder) -> None:
        """Give every request to the new release."""
        self._post("/promote", order, Any)

    def abort(self, order: DecideOrder) -> None:
        """Roll back to the old release."""
        self._post("/abort", order, Any)

    def restart(self, service: str, order: RestartOrder) -> Restarted:
        """Replace the replicas of a service ("" for all), and wait until that is done."""
        path = f"/services/{service}/restart" if service else "/restart"
        return self._post(path, order, Restarted, RESTART_SECONDS_MAX)

    def scale(self, service: str, order: ScaleOrder) -> Done:
        """Set the number of replicas."""
        return self._post(f"/services/{service}/scale", order, Done)

    def down(self, order: DownOrder) -> None:
        """Begin to stop the application."""
        self._post("/down", order, Any, LOOK_SECONDS_MAX)

    # -- how --------------------------------------------------------------------------------------

    def _get(self, path: str, kind: type[T] | Any) -> T:
        return self._ask("GET", path, b"", kind, LOOK_SECONDS_MAX)

    def _post(self, path: str, order: msgspec.Struct, kind: type[T] | Any, seconds_max: float | None = None) -> T:
        return self._ask("POST", path, msgspec.json.encode(order), kind, seconds_max or ANSWER_SECONDS_MAX)

    def _ask(self, verb: str, path: str, body: bytes, kind: type[T] | Any, seconds_max: float) -> T:
        with self._told(seconds_max):
            data = self._open(verb, path, body, seconds_max).read()
            try:
                return msgspec.json.decode(data, type=kind)
            except msgspec.ValidationError as error:
                raise Refused(
                    f"the supervisor's answer to {path} is not as this version knows it: {error}",
                    remedy="use the version of Fissile that started it, or start it anew",
                ) from None

    def _open(self, verb: str, path: str, body: bytes, seconds_max: float) -> Answer:
        """An answer whose head is there. Raises Refused, and as `_told` says."""
        sock, headers = self._connected()
        sock.settimeout(seconds_max)
        answer = ask(sock, verb, quote(path, safe="/?&="), {"Content-Type": "application/json", **headers}, body)
        if answer.status != 200:
            raise _refused(answer.read())
        return answer

    @contextmanager
    def _told(self, seconds_max: float) -> Generator[None]:
        """Within it, a supervisor that does not answer is Refused; one that has ended, or is about to, is NotServed."""
        try:
            yield
        except TimeoutError:
            raise Refused(
                f"the supervisor (pid {self.endpoints.pid}) has not answered for {seconds_max:g} s",
                remedy=f"if it hangs, `kill -9 {self.endpoints.pid}` ends it alone: services go on, and `fissile up` "
                "starts another supervisor; `fissile down` ends the rest",
            ) from None
        except (OSError, Broken, msgspec.DecodeError) as error:
            self._look_again()
            raise Refused(
                f"the supervisor (pid {self.endpoints.pid}) does not answer: {error or type(error).__name__}",
                remedy="see .fissile/logs/fissile.log; once it has died, `fissile up` starts another",
            ) from None

    def _look_again(self) -> None:
        """Raise NotServed if the supervisor takes no more orders.

        A process that was killed closes its sockets before it counts as dead: a single look would find it alive.
        """
        limit = time.monotonic() + DEATH_SECONDS_MAX
        while time.monotonic() < limit:
            supervised(self._root)
            time.sleep(POLL_SECONDS)

    def _connected(self) -> tuple[socket.socket, dict[str, str]]:
        """A connection, and the headers that authorize us there. Raises OSError."""
        try:
            return _unix(self.endpoints.api_socket), {}
        except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError, BlockingIOError):
            # Somebody removed the socket, and the supervisor has not restored it so far; or its queue is full.
            address = urlsplit(self.endpoints.api)
            sock = socket.create_connection((address.hostname or "", address.port or 0), CONNECT_SECONDS_MAX)
            return sock, {"Authorization": f"Bearer {self.endpoints.api_token}"}


def environment_here() -> str:
    """This process's environment as orders take it. The mark of an application's own processes stays out of it."""
    import base64

    lines = [name + b"=" + value + b"\0" for name, value in os.environb.items() if name != VARIABLE.encode()]
    return base64.b64encode(b"".join(lines)).decode()


def _unix(path: str) -> socket.socket:
    """A connection to a Unix socket. Raises OSError."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # While the queue is full, connect(2) waits if the socket blocks. One with a timeout of Python's does not block,
        # and would fail at once; so the kernel has the timeout.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", CONNECT_SECONDS_MAX, 0))
        with addressed(path) as short:
            sock.connect(short)
    except OSError:
        sock.close()
        raise
    return sock


def _refused(body: bytes) -> Refused:
    try:
        problem = msgspec.json.decode(body, type=Problem)
    except msgspec.DecodeError:
        return Refused(body.decode(errors="replace")[:TEXT_CHARACTERS_SHOWN])
    return Refused(problem.detail, remedy=problem.remedy, service=problem.service, last_lines=problem.last_lines)

"""How commands ask a running supervisor: HTTP over its Unix socket, or TCP with its token where that is gone."""

import socket
import struct
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import msgspec

from fissile.cli.http import Answer, Broken, ask
from fissile.errors import ProcessError
from fissile.rpc.paths import addressed
from fissile.supervisor.endpoints import supervised

CONNECT_SECONDS_MAX = 5
# A restart waits for replicas to finish what they do.
ANSWER_SECONDS_MAX = 300.0
# What is only looked at is there at once.
LOOK_SECONDS_MAX = 15.0
# From the closing of its sockets to the end of a process that was killed.
DEATH_SECONDS_MAX = 0.5
POLL_SECONDS = 0.02


class Refused(ProcessError):
    """The supervisor said no; its own words. service, last_lines: of a process that did not come up."""


def _unix(path: str) -> socket.socket:
    """A connection to a Unix socket. Raises OSError."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # Where others stand at the door, one that waits has its turn; with a timeout of Python's it would not wait.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", CONNECT_SECONDS_MAX, 0))
        with addressed(path) as short:
            sock.connect(short)
    except OSError:
        sock.close()
        raise
    return sock


class Client:
    """The API of the supervisor in a folder. Raises ConfigError where there is none."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.endpoints = supervised(root)

    def _open(self, verb: str, path: str, body: Any, seconds_max: float) -> Answer:
        """An answer whose head is there. Raises Refused, and as `_told` says."""
        data = b"" if body is None else msgspec.json.encode(body)
        sock, headers = self._connected()
        sock.settimeout(seconds_max)
        answer = ask(sock, verb, quote(path, safe="/?&="), {"Content-Type": "application/json", **headers}, data)
        if answer.status != 200:
            raise _refused(answer.read())
        return answer

    def _ask(self, verb: str, path: str, body: Any, seconds_max: float) -> Any:
        with self._told(seconds_max):
            return msgspec.json.decode(self._open(verb, path, body, seconds_max).read())

    @contextmanager
    def _told(self, seconds_max: float) -> Generator[None]:
        """Within it, a supervisor that does not answer is Refused; one that has ended meanwhile, or is about to, is
        NotServed."""
        try:
            yield
        except TimeoutError:
            raise Refused(
                f"the supervisor (pid {self.endpoints.pid}) has not answered for {seconds_max:g} s",
                remedy=f"`kill -9 {self.endpoints.pid}` ends it alone, if it hangs; what runs goes on: `fissile up` "
                "starts another supervisor, `fissile down` ends the rest",
            ) from None
        except (OSError, Broken, msgspec.DecodeError) as error:
            self._look_again()
            raise Refused(
                f"the supervisor (pid {self.endpoints.pid}) does not answer: {error or type(error).__name__}",
                remedy="see .fissile/logs/fissile.log; `fissile up` after its death starts another",
            ) from None

    def _look_again(self) -> None:
        """Raises NotServed where the supervisor takes no orders any more. One that was killed lets go of its sockets
        before it counts as dead."""
        limit = time.monotonic() + DEATH_SECONDS_MAX
        while time.monotonic() < limit:
            supervised(self._root)
            time.sleep(POLL_SECONDS)

    def _connected(self) -> tuple[socket.socket, dict[str, str]]:
        """A connection, and what proves us there. Raises OSError."""
        try:
            return _unix(self.endpoints.api_socket), {}
        except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError, BlockingIOError):
            # Somebody removed the socket, and it has not been put back so far; or too many stand there.
            address = urlsplit(self.endpoints.api)
            sock = socket.create_connection((address.hostname or "", address.port or 0), CONNECT_SECONDS_MAX)
            return sock, {"Authorization": f"Bearer {self.endpoints.api_token}"}

    def get(self, path: str) -> Any:
        """Ask. Raises Refused."""
        return self._ask("GET", path, None, LOOK_SECONDS_MAX)

    def post(self, path: str, body: Any = None, *, seconds_max: float = ANSWER_SECONDS_MAX) -> Any:
        """Order. seconds_max: for the answer. Raises Refused."""
        return self._ask("POST", path, body or {}, seconds_max)

    def service(self, given: str) -> str:
        """The service that somebody means by its name, or by that of a component. Raises ConfigError, Refused."""
        from fissile.cli.naming import service_named

        return service_named(given, {one["name"]: one["components"] for one in self.get("/status")["services"]})

    def events(self, path: str) -> Iterator[Any]:
        """Server-sent events, for as long as they come."""
        with self._told(ANSWER_SECONDS_MAX):
            for line in self._open("GET", path, None, ANSWER_SECONDS_MAX).lines():
                if line.startswith(b"data: "):
                    yield msgspec.json.decode(line[6:])


def _refused(body: bytes) -> Refused:
    try:
        problem = msgspec.json.decode(body)
        return Refused(
            problem["detail"],
            remedy=problem.get("remedy", ""),
            service=problem.get("service", ""),
            last_lines=problem.get("last_lines", ()),
        )
    except (msgspec.DecodeError, ValueError, KeyError, TypeError):
        return Refused(body.decode(errors="replace")[:500])

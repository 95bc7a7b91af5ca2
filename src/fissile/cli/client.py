"""How commands ask a running supervisor: HTTP over its Unix socket, or TCP with its token where that is gone."""

import json
import socket
import struct
from collections.abc import Iterator, Sequence
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fissile.errors import FissileError, with_lines
from fissile.rpc.paths import addressed
from fissile.supervisor.endpoints import supervised

CONNECT_SECONDS_MAX = 5
# A restart waits for replicas to finish what they do.
ANSWER_SECONDS_MAX = 300.0
# What is only looked at is there at once.
LOOK_SECONDS_MAX = 15.0


class Refused(FissileError):
    """The supervisor said no; its own words. service, last_lines: of a process that did not come up."""

    def __init__(self, message: str, *, remedy: str = "", service: str = "", last_lines: Sequence[str] = ()) -> None:
        super().__init__(message, remedy=remedy)
        self.service = service
        self.last_lines = tuple(last_lines)

    def __str__(self) -> str:
        return with_lines(self.message, self.remedy, self.service, self.last_lines)


class _UnixConnection(HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("supervisor", timeout=ANSWER_SECONDS_MAX)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        # Where others stand at the door, one that waits has its turn; with a timeout of Python's it would not wait.
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", CONNECT_SECONDS_MAX, 0))
        with addressed(self._path) as path:
            self.sock.connect(path)
        self.sock.settimeout(self.timeout)


class Client:
    """The API of the supervisor in a folder. Raises ConfigError where there is none."""

    def __init__(self, root: Path) -> None:
        self.endpoints = supervised(root)

    def _open(self, verb: str, path: str, body: Any = None, *, seconds_max: float = ANSWER_SECONDS_MAX) -> Any:
        data = None if body is None else json.dumps(body).encode()
        try:
            connection, headers = self._connected()
            connection.sock.settimeout(seconds_max)
            connection.request(verb, path, data, {"Content-Type": "application/json", **headers})
            answer = connection.getresponse()
        except TimeoutError:
            raise Refused(
                f"the supervisor (pid {self.endpoints.pid}) has not answered for {seconds_max:g} s",
                remedy=f"`kill -9 {self.endpoints.pid}` ends it alone, if it hangs; what runs goes on: `fissile up` "
                "starts another supervisor, `fissile down` ends the rest",
            ) from None
        except (OSError, HTTPException) as error:
            raise Refused(
                f"the supervisor (pid {self.endpoints.pid}) does not answer: {error or type(error).__name__}",
                remedy="see .fissile/logs/fissile.log; `fissile up` after its death starts another",
            ) from None
        if answer.status != 200:
            raise _refused(answer.read())
        return answer

    def _connected(self) -> tuple[HTTPConnection, dict[str, str]]:
        """A connection, and what proves us there. Raises OSError."""
        unix = _UnixConnection(self.endpoints.api_socket)
        try:
            unix.connect()
            return unix, {}
        except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError, BlockingIOError):
            # Somebody removed the socket, and it has not been put back so far; or too many stand there.
            address = urlsplit(self.endpoints.api)
            tcp = HTTPConnection(address.hostname or "", address.port, timeout=ANSWER_SECONDS_MAX)
            tcp.connect()
            return tcp, {"Authorization": f"Bearer {self.endpoints.api_token}"}

    def get(self, path: str) -> Any:
        """Ask. Raises Refused."""
        return json.loads(self._open("GET", path, seconds_max=LOOK_SECONDS_MAX).read())

    def post(self, path: str, body: Any = None, *, seconds_max: float = ANSWER_SECONDS_MAX) -> Any:
        """Order. seconds_max: for the answer. Raises Refused."""
        return json.loads(self._open("POST", path, body or {}, seconds_max=seconds_max).read())

    def service(self, given: str) -> str:
        """The service that somebody means by its name, or by that of a component. Raises ConfigError, Refused."""
        from fissile.cli.naming import service_named

        return service_named(given, {one["name"]: one["components"] for one in self.get("/status")["services"]})

    def events(self, path: str) -> Iterator[Any]:
        """Server-sent events, for as long as they come."""
        with self._open("GET", path) as answer:
            for line in answer:
                if line.startswith(b"data: "):
                    yield json.loads(line[6:])


def _refused(body: bytes) -> Refused:
    try:
        problem = json.loads(body)
        return Refused(
            problem["detail"],
            remedy=problem.get("remedy", ""),
            service=problem.get("service", ""),
            last_lines=problem.get("last_lines", ()),
        )
    except (ValueError, KeyError, TypeError):
        return Refused(body.decode(errors="replace")[:500])

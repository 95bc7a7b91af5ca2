"""What a start says to whoever waits for it: JSON documents, one a line, over a pair of sockets.

Who waits is `fissile up`. It hears what is waited for, and then how it went. "All is up" counts once it has taken that;
if it closes its end before, told to end or killed, the start is given up, and what it had begun ends. So an
application runs in the background only where somebody has been told that it does.
"""

import os
import socket
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress

import msgspec

from fissile.errors import ConfigError, FissileError, StartError
from fissile.supervisor.endpoints import Endpoints

# A reader that was stopped (Ctrl-Z) must not hold up the supervisor.
SAY_SECONDS_MAX = 1.0
READ_BYTES = 64 * 1024
TAKEN = b"+"


class Waiting(msgspec.Struct, frozen=True, tag="waiting"):
    """What is waited for just now; "" for nothing that there are words for."""

    text: str


class AllUp(msgspec.Struct, frozen=True, tag="up"):
    """It succeeded."""

    endpoints: Endpoints


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """It failed. service, last_lines: as of `StartError`. start: whether that is what it was."""

    message: str
    remedy: str = ""
    start: bool = False
    service: str = ""
    last_lines: tuple[str, ...] = ()

    def error(self) -> FissileError:
        """As it is raised by whoever has waited."""
        if not self.start:
            return ConfigError(self.message, remedy=self.remedy)
        return StartError(self.message, remedy=self.remedy, service=self.service, last_lines=self.last_lines)


class GivenUp(msgspec.Struct, frozen=True, tag="given up"):
    """It was given up, and nothing is left of it. goes_on: what ran before runs on."""

    goes_on: bool


Message = Waiting | AllUp | Failed | GivenUp


class Report:
    """The side of the supervisor, which tells systemd, too (sd_notify(3)). fd: its end; -1: nobody waits."""

    def __init__(self, fd: int) -> None:
        self._socket = socket.socket(fileno=fd) if fd >= 0 else None
        if self._socket is not None:
            self._socket.set_inheritable(False)
            self._socket.settimeout(SAY_SECONDS_MAX)
        self._said = ""

    def waiting(self, text: str) -> None:
        """What is waited for; said once."""
        if text != self._said:
            self._said = text
            self._say(Waiting(text))

    def ready(self, endpoints: Endpoints) -> None:
        """All is up."""
        self._say(AllUp(endpoints))
        address = os.environ.get("NOTIFY_SOCKET", "")
        if address:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock, suppress(OSError):
                sock.connect("\0" + address[1:] if address.startswith("@") else address)
                sock.send(b"READY=1")

    def given_up(self, *, goes_on: bool) -> None:
        """Nothing is left of the start."""
        self._say(GivenUp(goes_on))

    @contextmanager
    def failures(self) -> Generator[None]:
        """Within it, an error of the user's is reported before it is raised."""
        try:
            yield
        except StartError as error:
            self._say(Failed(error.message, error.remedy, True, error.service, error.last_lines))
            raise
        except FissileError as error:
            self._say(Failed(error.message, error.remedy))
            raise

    @property
    def fd(self) -> int:
        """To be watched until `answered` has something to say; -1: nobody waits, or not any more."""
        return self._socket.fileno() if self._socket is not None else -1

    def answered(self) -> bool | None:
        """To be asked once there is something to read: whether that all is up was taken (else nobody waits any more).

        None: nothing was said.
        """
        if self._socket is None:
            return None
        try:
            data = self._socket.recv(READ_BYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None
        except OSError:
            data = b""
        return data == TAKEN

    def close(self) -> None:
        """Nothing more will be said."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _say(self, message: Message) -> None:
        if self._socket is not None:
            with suppress(OSError):  # nobody hears it
                self._socket.sendall(msgspec.json.encode(message) + b"\n")


class Listener:
    """The side of whoever waits."""

    def __init__(self) -> None:
        self._ours, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)

    @property
    def fd(self) -> int:
        """The other end, for the process that reports."""
        return self._theirs.fileno()

    def passed_on(self) -> None:
        """That process has its end."""
        self._theirs.close()

    def messages(self, tick_seconds: float, tick: Callable[[], None]) -> Iterator[Message]:
        """What is said, until the process has ended. tick: called whenever nothing is said for so long."""
        self._ours.settimeout(tick_seconds)
        data = b""
        while True:
            try:
                more = self._ours.recv(READ_BYTES)
            except TimeoutError:
                tick()
                continue
            except OSError:
                more = b""
            if not more:
                return
            *lines, data = (data + more).split(b"\n")
            for line in lines:
                yield msgspec.json.decode(line, type=Message)

    def take(self) -> None:
        """It is known that all is up: from now on, nobody is waited for."""
        with suppress(OSError):
            self._ours.sendall(TAKEN)

    def give_up(self) -> None:
        """Nobody waits any more; what is said until the end can still be heard."""
        with suppress(OSError):
            self._ours.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Hear nothing more."""
        self._ours.close()
        self._theirs.close()

"""Replicas' output, merged line by line with the service's name in front.

A thread of its own reads the pipes and writes, so that a terminal that stands still holds up what is
printed and nothing else. Lines are never mixed; very long ones are cut into pieces. A line without its end, as of a
program that asks something, is shown after a short while, and goes on where it stands unless somebody else has written
meanwhile.
"""

import os
import selectors
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import BinaryIO

LINE_BYTES_MAX = 16 * 1024
READ_BYTES = 64 * 1024
CLOSE_SECONDS_MAX = 2.0
# A line without its end is shown once nothing was added to it for so long.
QUIET_SECONDS = 0.3
COLOURS = (36, 33, 32, 35, 34, 96, 93, 92, 95, 94)


class Lines:
    """Cuts bytes into lines of at most LINE_BYTES_MAX."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that are complete with this data."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        found = [piece for line in lines for piece in _pieces(line)]
        while len(self._rest) > LINE_BYTES_MAX:
            found.append(self._rest[:LINE_BYTES_MAX])
            self._rest = self._rest[LINE_BYTES_MAX:]
        return found

    @property
    def begun(self) -> bool:
        """Whether there is something of a line that has no end so far."""
        return bool(self._rest)

    def finish(self) -> list[bytes]:
        """Return what is left at the end, if the last line has no end."""
        rest, self._rest = self._rest, b""
        return [rest] if rest else []


def _pieces(line: bytes) -> list[bytes]:
    line = line.removesuffix(b"\r")
    return [line[i : i + LINE_BYTES_MAX] for i in range(0, len(line), LINE_BYTES_MAX)] or [b""]


class Screen:
    """The destination of all lines. Only the last of them may be open."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: Source | None = None
        self._write: Callable[[bytes], None] | None = None

    def show(self, source: "Source", lines: list[bytes], *, whole: bool = True) -> None:
        """Write lines as one piece. whole: whether the last one has its end."""
        with self._lock:
            self._close_but(source)
            if source.cut and not lines[0]:
                lines = lines[1:]  # only the end of a line that was ended for others
            source.cut = False
            if not lines:
                return
            first = b"" if self._open is source else source.prefix
            text = b"\n".join([first + lines[0], *(source.prefix + line for line in lines[1:])])
            source.write(text + (b"\n" if whole else b""))
            self._open, self._write = (None, None) if whole else (source, source.write)

    def end(self, source: "Source") -> None:
        """There is no more of its line."""
        with self._lock:
            if self._open is source:
                self._close_but(None)

    def put(self, data: bytes, write: Callable[[bytes], None]) -> None:
        """Write whole lines that are of no source."""
        with self._lock:
            self._close_but(None)
            write(data)

    def _close_but(self, source: "Source | None") -> None:
        if self._open is not source and self._write is not None:
            self._write(b"\n")
            if self._open is not None:
                self._open.cut = True
            self._open = self._write = None


class Source:
    """One pipe, with the name of its writer and the destination of its lines."""

    def __init__(self, prefix: bytes, write: Callable[[bytes], None], screen: Screen) -> None:
        self.prefix = prefix
        self.write = write
        self.lines = Lines()
        self.heard_at = 0.0
        # Whether its line was ended for somebody else's.
        self.cut = False
        self._screen = screen

    @property
    def begun(self) -> bool:
        """Whether it has something to show that is no whole line."""
        return self.lines.begun

    def take(self, data: bytes, now: float) -> None:
        """It has written something. now: monotonic seconds."""
        self.heard_at = now
        lines = self.lines.feed(data)
        if lines:
            self._screen.show(self, lines)

    def show_begun(self) -> None:
        """Show what it has begun; the rest of the line follows."""
        rest = self.lines.finish()
        if rest:
            self._screen.show(self, rest, whole=False)

    def end(self) -> None:
        """It writes no more."""
        rest = self.lines.finish()
        if rest:
            self._screen.show(self, rest)
        self._screen.end(self)


class Logs:
    """All pipes. out, err: where lines go; coloured: whether names are; width: of the widest name."""

    def __init__(
        self,
        out: Callable[[bytes], None] | None = None,
        err: Callable[[bytes], None] | None = None,
        *,
        coloured: bool | None = None,
        width: int = 0,
    ) -> None:
        self._out = out or writer(sys.stdout.buffer)
        self._err = err or writer(sys.stderr.buffer)
        self._coloured = on_terminal() if coloured is None else coloured
        self.width = width
        self._screen = Screen()
        self._begun: set[Source] = set()
        self._colour_of: dict[str, int] = {}
        self._selector = selectors.DefaultSelector()
        self._wake_read, self._wake_write = os.pipe()
        self._selector.register(self._wake_read, selectors.EVENT_READ)
        self._lock = threading.Lock()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="fissile-logs", daemon=True)
        self._thread.start()

    def begin(self) -> None:
        """It has begun already."""

    def pipes(self, name: str) -> tuple[int, int]:
        """Write ends for a process's stdout and stderr; the caller closes them once it has passed them on."""
        return self._pipe(name, self._out), self._pipe(name, self._err)

    def _pipe(self, name: str, write: Callable[[bytes], None]) -> int:
        read_end, write_end = os.pipe()
        os.set_blocking(read_end, False)
        with self._lock:
            self._selector.register(read_end, selectors.EVENT_READ, Source(self.prefix(name), write, self._screen))
        os.write(self._wake_write, b"+")
        return write_end

    def prefix(self, name: str) -> bytes:
        """Return the prefix of a line."""
        shown = f"{name:<{self.width}} | "
        if self._coloured:
            colour = self._colour_of.setdefault(name.partition(".")[0], COLOURS[len(self._colour_of) % len(COLOURS)])
            shown = f"\x1b[{colour}m{shown}\x1b[0m"
        return shown.encode()

    def say(self, name: str, text: str) -> None:
        """A line of our own, among the others."""
        self._screen.put(b"".join(self.prefix(name) + line.encode() + b"\n" for line in text.splitlines()), self._err)

    def close(self) -> None:
        """Write all that has been printed so far, then stop reading."""
        if self._closing:
            return
        self._closing = True
        os.write(self._wake_write, b"-")
        self._thread.join(CLOSE_SECONDS_MAX)

    def _run(self) -> None:
        while not self._closing:
            for key, _ in self._selector.select(self._show_begun(time.monotonic())):
                if key.data is None:
                    os.read(self._wake_read, 4096)
                else:
                    self._read(key.fd, key.data)
        for key in list(self._selector.get_map().values()):
            if key.data is not None:
                while self._read(key.fd, key.data):
                    pass
                if key.fd in self._selector.get_map():  # somebody still holds its other end
                    self._end(key.fd, key.data)
        self._selector.close()
        os.close(self._wake_read)
        os.close(self._wake_write)

    def _read(self, fd: int, source: Source) -> bool:
        """Read once; whether there may be more."""
        try:
            data = os.read(fd, READ_BYTES)
        except BlockingIOError:
            return False
        if not data:
            self._end(fd, source)
            return False
        source.take(data, time.monotonic())
        (self._begun.add if source.begun else self._begun.discard)(source)
        return True

    def _show_begun(self, now: float) -> float | None:
        """Show lines whose ends do not come; after how many seconds there will be another."""
        for source in [one for one in self._begun if now - one.heard_at >= QUIET_SECONDS]:
            source.show_begun()
            self._begun.discard(source)
        return min((one.heard_at + QUIET_SECONDS - now for one in self._begun), default=None)

    def _end(self, fd: int, source: Source) -> None:
        source.end()
        self._begun.discard(source)
        with self._lock:
            self._selector.unregister(fd)
        os.close(fd)


def writer(stream: BinaryIO) -> Callable[[bytes], None]:
    """Writes whole lines to a stream; once nobody reads it, what is written is dropped."""
    lock = threading.Lock()

    def write(data: bytes) -> None:
        with lock, suppress(BrokenPipeError, ValueError):
            stream.write(data)
            stream.flush()

    return write


def on_terminal() -> bool:
    """Whether colours are wanted."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")

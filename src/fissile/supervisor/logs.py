"""Merges what replicas print: line by line, with the service's name in front."""

import asyncio
import os
import sys
from typing import TextIO

LINE_BYTES_MAX = 64 * 1024
_COLOURS = (36, 33, 32, 35, 34, 96, 93, 92, 95, 94)


class Merger:
    """Writes lines of all services to one stream; coloured only on a terminal."""

    def __init__(self, services: list[str], stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._width = max((len(service) for service in services), default=0)
        self._colours = {service: _COLOURS[i % len(_COLOURS)] for i, service in enumerate(services)}
        self._terminal = self._stream.isatty()

    def line(self, service: str, text: str) -> None:
        """Write one line."""
        name = f"{service:<{self._width}} |"
        if self._terminal:
            name = f"\x1b[{self._colours.get(service, 37)}m{name}\x1b[0m"
        self._stream.write(f"{name} {text}\n")
        self._stream.flush()

    def pipe(self, service: str) -> tuple[int, asyncio.Task[None]]:
        """A descriptor for a replica's output, and the task that ends when all of it is written."""
        reading, writing = os.pipe()
        return writing, asyncio.get_running_loop().create_task(self._follow(service, reading))

    async def _follow(self, service: str, reading: int) -> None:
        reader = asyncio.StreamReader(limit=LINE_BYTES_MAX)
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(reading, "rb", 0)
        )
        try:
            while True:
                try:
                    data = await reader.readuntil(b"\n")
                except asyncio.IncompleteReadError as end:
                    data = end.partial
                    if not data:
                        return
                except asyncio.LimitOverrunError:
                    data = await reader.read(LINE_BYTES_MAX)  # a line that is too long is cut into several
                self.line(service, data.rstrip(b"\n").decode(errors="replace"))
        finally:
            transport.close()

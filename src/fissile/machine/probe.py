"""Probes whether a program that knows nothing of Fissile serves: by HTTP, or by whether it accepts connections."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

PROBE_SECONDS_MAX = 1.0
PAUSE_SECONDS = 0.02
PAUSE_SECONDS_MAX = 0.5
TCP = "tcp"


async def serves(host: str, port: int, ready: str) -> bool:
    """Return whether it serves. ready: a path that is to be answered with 200, or "tcp"."""
    try:
        async with asyncio.timeout(PROBE_SECONDS_MAX):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                if ready == TCP:
                    return True
                writer.write(f"GET {ready} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n".encode())
                line = await reader.readline()
                return line.split()[1:2] == [b"200"]
            finally:
                writer.close()
                with suppress(OSError):
                    await writer.wait_closed()
    except (OSError, TimeoutError, ValueError):
        return False


async def until_it_serves(host: str, port: int, ready: str, itself: Callable[[], Awaitable[bool]]) -> None:
    """Probe until it serves; the caller sets the time limit. itself: whether it was the program that answered."""
    pause = PAUSE_SECONDS
    while not (await serves(host, port, ready) and await itself()):
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, PAUSE_SECONDS_MAX)

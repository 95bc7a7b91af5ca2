"""Restarts of the shop's Frontend on a machine that is busy with something else: no request may be lost.

Arguments: how many restarts (50), how many busy processes beside them (4). Browsers ask all the time, some on a new
connection for each request and some on a kept one. A failure is told with what was sent, what came, and when it was
after the order to restart. The exit code is 1 if there was one.
"""

import asyncio
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from purchases import RunningShop

RESTARTS = 50
BUSY = 4
NEW, KEPT = 6, 6
ANSWER_SECONDS_MAX = 30.0
# A visitor with a kept connection rests for so long between two requests: from not at all to longer than a loop's turn.
RESTS = (0.0, 0.002, 0.02, 0.2)
BUSY_LOOP = "while True: pass"


@dataclass
class Seen:
    """What all browsers saw. restarted: when the last restart was ordered (monotonic seconds)."""

    answered: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    restarted: float = 0.0


async def _one(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, *, keep: bool
) -> tuple[int, bool, str]:
    """A request and its answer: the status, whether the connection goes on, and how far it came."""
    step = "writing"
    try:
        writer.write(
            f"GET / HTTP/1.1\r\nhost: {host}\r\nconnection: {'keep-alive' if keep else 'close'}\r\n\r\n".encode()
        )
        await writer.drain()
        step = "waiting for the head"
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        step = "reading the body"
        length = next((int(line[15:]) for line in head.splitlines() if line.startswith("content-length:")), None)
        await (reader.readexactly(length) if length is not None else reader.read())
        return int(head.split()[1]), keep and "connection: close" not in head, ""
    except asyncio.IncompleteReadError as error:
        return 0, False, f"{step}: the connection ended after {len(error.partial)} bytes"
    except OSError as error:
        return 0, False, f"{step}: {type(error).__name__}: {error}"


async def _browse(address: str, kind: str, rest: float, seen: Seen, over: asyncio.Event) -> None:
    host, _, port = address.removeprefix("http://").rstrip("/").partition(":")
    while not over.is_set():
        try:
            reader, writer = await asyncio.open_connection(host, int(port))
        except OSError as error:
            _lost(seen, kind, 0, f"connecting: {type(error).__name__}: {error}", time.monotonic())
            continue
        number, goes_on = 0, True
        while goes_on and not over.is_set():
            number += 1
            begun = time.monotonic()
            try:
                async with asyncio.timeout(ANSWER_SECONDS_MAX):
                    status, goes_on, trouble = await _one(reader, writer, host, keep=kind == "kept")
            except TimeoutError:
                status, goes_on, trouble = 0, False, f"no answer within {ANSWER_SECONDS_MAX:g} s"
            if status == 200:
                seen.answered[kind] += 1
            else:
                _lost(seen, kind, number, trouble or f"status {status}", begun)
            await asyncio.sleep(rest if kind == "kept" else 0)
        writer.close()


def _lost(seen: Seen, kind: str, number: int, how: str, begun: float) -> None:
    now = time.monotonic()
    text = (
        f"{kind} connection, request {number}: {how}; begun {begun - seen.restarted:.3f} s after the order to restart, "
        f"{now - begun:.3f} s ago"
    )
    seen.lost.append(text)
    print(text, flush=True)


async def _restart(shop: RunningShop, restarts: int) -> Seen:
    seen, over = Seen(), asyncio.Event()
    address = shop.address()
    kinds = [("new", 0.0)] * NEW + [("kept", RESTS[number % len(RESTS)]) for number in range(KEPT)]
    browsers = [asyncio.create_task(_browse(address, kind, rest, seen, over)) for kind, rest in kinds]
    try:
        for _ in range(restarts):
            seen.restarted = time.monotonic()
            await shop.restart("frontend")
    finally:
        over.set()
        await asyncio.gather(*browsers)
    return seen


def main(restarts: int = RESTARTS, busy: int = BUSY) -> int:
    """The program."""
    with tempfile.TemporaryDirectory(prefix="fissile-restarts-") as folder:
        shop = RunningShop(Path(folder) / "shop", "microservices")
        loops: list[subprocess.Popen[bytes]] = []
        try:
            shop.address()
            loops += [subprocess.Popen([sys.executable, "-c", BUSY_LOOP]) for _ in range(busy)]
            begun = time.monotonic()
            seen = asyncio.run(_restart(shop, restarts))
        finally:
            for loop in loops:
                loop.kill()
                loop.wait()
            shop.stop()
    counted = ", ".join(f"{count} on {kind} connections" for kind, count in sorted(seen.answered.items()))
    print(f"{restarts} restarts beside {busy} busy processes in {time.monotonic() - begun:.0f} s: {counted}")
    print(f"lost: {len(seen.lost)}")
    return 1 if seen.lost else 0


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:3])))

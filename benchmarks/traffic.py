"""An open-loop load from a process of its own: requests come at their rate, whatever becomes of those before.

Arguments: the address, requests per second, paths. It goes on until its standard input is closed, and then
prints what it saw as JSON: answers by their text, failures, and each request: when it was sent (seconds of the
wall clock), seconds until the whole answer was there, and whether it was one.
"""

import asyncio
import itertools
import json
import sys
import time
from collections import Counter
from typing import Any

import aiohttp

ANSWER_CHARACTERS_MAX = 200
SECONDS_MAX = 20.0


async def load(address: str, rate: float, paths: list[str]) -> dict[str, Any]:
    """Send until nobody listens any more."""
    answers: Counter[str] = Counter()
    failures: list[str] = []
    requests: list[tuple[float, float, bool]] = []
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), stop.set)
    kept = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
    fresh = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, force_close=True))

    async def one(session: aiohttp.ClientSession, path: str) -> None:
        begun, at, well = time.perf_counter(), time.time(), False
        try:
            async with session.get(address + path, timeout=aiohttp.ClientTimeout(total=SECONDS_MAX)) as answer:
                text = await answer.text()
                if answer.status == 200:
                    answers[text if len(text) <= ANSWER_CHARACTERS_MAX else f"{len(text)} characters"] += 1
                    well = True
                else:
                    failures.append(f"{path}: {answer.status} {text[:300]}")
        except (aiohttp.ClientError, TimeoutError) as error:
            failures.append(f"{path}: {type(error).__name__} {error}")
        requests.append((at, time.perf_counter() - begun, well))

    tasks: set[asyncio.Task[None]] = set()
    begun = time.monotonic()
    print("begun", flush=True)
    for number in itertools.count():
        pause = begun + number / rate - time.monotonic()
        if stop.is_set():
            break
        if pause > 0:
            try:
                async with asyncio.timeout(pause):
                    await stop.wait()
            except TimeoutError:
                pass
        # Every third on a connection of its own, the others on those that are kept.
        task = asyncio.create_task(one(fresh if number % 3 == 0 else kept, paths[number % len(paths)]))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await asyncio.gather(*tasks)
    await kept.close()
    await fresh.close()
    return {"answers": answers, "failures": failures, "requests": sorted(requests)}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(load(sys.argv[1], float(sys.argv[2]), sys.argv[3:] or ["/"]))))

"""A process of the storm, as its driver speaks with it: lines of JSON on standard output, words on standard input."""

import asyncio
import faulthandler
import json
import logging
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import uvloop


def say(**what: Any) -> None:
    """Tell the driver."""
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


class Orders:
    """What the driver says, a word a line. Its end is the order to stop."""

    def __init__(self) -> None:
        self._reader = asyncio.StreamReader()

    async def start(self) -> None:
        """Listen."""
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(self._reader), sys.stdin
        )

    async def next(self) -> str:
        """The next word."""
        line = await self._reader.readline()
        return line.decode().strip() or "stop"


def run(main: Callable[[dict[str, Any], Orders], Coroutine[Any, Any, None]]) -> None:
    """Run a process whose one argument says in JSON what it is to do."""
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    given = json.loads(sys.argv[1])

    async def begin() -> None:
        orders = Orders()
        await orders.start()
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR2, _stacks)
        await main(given, orders)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(begin())


def _stacks() -> None:
    for task in asyncio.all_tasks():
        task.print_stack(limit=4, file=sys.stderr)

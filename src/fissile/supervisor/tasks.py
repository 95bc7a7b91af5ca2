"""The supervisor's own asyncio tasks: none is lost, and none fails in silence."""

import asyncio
import traceback
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from fissile.machine.run_forever import run_forever

T = TypeVar("T")


class BackgroundTasks:
    """Tasks that run beside each other until they end or are cancelled. log: is told of internal errors."""

    def __init__(self, log: Callable[[str], None]) -> None:
        self._log = log
        self._tasks: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def __iter__(self) -> Any:
        return iter(list(self._tasks))

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Begin something. The task is kept here: asyncio itself would let it be collected."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def run_forever(self, work: Callable[[], Awaitable[None]]) -> None:
        """Begin something that is begun again whenever it ends with an error that nobody has foreseen."""
        self.spawn(run_forever(work, self._log))

    def _done(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._log("internal error:\n" + "".join(traceback.format_exception(error)))

    async def wait(self) -> None:
        """Wait until all have ended by themselves."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def cancel(self) -> None:
        """End them all now, and wait until that is so."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

"""The event loop that a channel's connections are on, and calls that come from another one.

A thread may have a loop of its own, as where a page that is not async calls `asyncio.run`. In one process such a call
just runs. A connection belongs to its loop: the call is made there, and waited for here.
"""

import asyncio
from asyncio import AbstractEventLoop
from collections.abc import AsyncGenerator, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

_END = object()


class Home:
    """Of one channel. loop: None as long as none has run."""

    __slots__ = ("loop",)

    def __init__(self) -> None:
        self.loop = _running()

    def elsewhere(self) -> AbstractEventLoop | None:
        """The loop that a call from here is to be made on; None for this one."""
        running = _running()
        if running is None:  # a stream that is begun here, and read who knows where
            return None
        if self.loop is None or not self.loop.is_running():
            self.loop = running
        return None if self.loop is running else self.loop


def _running() -> AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


async def made_on(loop: AbstractEventLoop, call: Coroutine[Any, Any, T]) -> T:
    """Await a coroutine that runs on another loop, in this context; a cancellation reaches it."""
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(call, loop))


async def streamed_on(loop: AbstractEventLoop, items: AsyncGenerator[Any]) -> AsyncGenerator[Any]:
    """The items of a stream that runs on another loop."""

    async def following() -> Any:
        return await anext(items, _END)

    async def close() -> None:
        await items.aclose()

    try:
        while (item := await made_on(loop, following())) is not _END:
            yield item
    finally:
        await made_on(loop, close())

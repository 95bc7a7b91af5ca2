"""A mistake of one turn does not end what has to go on."""

import asyncio
from contextlib import suppress

from fissile.machine.run_forever import run_forever


async def test_it_says_what_was_wrong_and_goes_on_until_it_is_cancelled():
    said: list[str] = []
    turns = asyncio.Semaphore(0)

    async def work() -> None:
        turns.release()
        if len(said) < 2:
            raise KeyError("cart")
        await asyncio.sleep(60)

    task = asyncio.create_task(run_forever(work, said.append, 0.0))
    for _ in range(3):
        await turns.acquire()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert task.cancelled()
    assert len(said) == 2
    assert all("internal error" in text and "KeyError: 'cart'" in text for text in said)

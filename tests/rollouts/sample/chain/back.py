"""Called twice for each answer: once directly, and once by way of Middle."""

import asyncio
import random
from collections.abc import AsyncIterator

from fissile import component, method

VERSION = 1
FAILING_SHARE = 0.0
PAUSE_SECONDS = 0.0


@component
class Back:
    @method(idempotent=True)
    async def version(self) -> int:
        if random.random() < FAILING_SHARE:
            raise ValueError("a mistake of this release")
        await asyncio.sleep(PAUSE_SECONDS)
        return VERSION

    async def versions(self, count: int, pause_seconds: float) -> AsyncIterator[int]:
        for _ in range(count):
            await asyncio.sleep(pause_seconds)
            yield VERSION

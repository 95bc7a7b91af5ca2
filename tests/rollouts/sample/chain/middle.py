"""Passes on what Back says."""

from chain.back import Back
from fissile import component, method

VERSION = 1


@component
class Middle:
    def __init__(self, back: Back) -> None:
        self._back = back

    @method(idempotent=True)
    async def relayed(self) -> tuple[int, int]:
        return VERSION, await self._back.version()

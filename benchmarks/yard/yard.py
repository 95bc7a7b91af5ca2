"""What supervision is measured on: work that only waits, a door to it, and a bystander."""

import asyncio
import os
from typing import Any

from fissile import Application, component, method


@component
class Worker:
    """Does what it is told to."""

    @method(idempotent=True)
    async def pid(self) -> int:
        return os.getpid()

    @method(idempotent=True, timeout=30.0)
    async def wait(self, seconds: float) -> int:
        await asyncio.sleep(seconds)
        return os.getpid()

    @method(timeout=30.0)
    async def once(self, seconds: float) -> int:
        await asyncio.sleep(seconds)
        return os.getpid()

    async def eat(self, mebibytes: int) -> int:
        self.eaten = bytearray(mebibytes * 2**20)
        self.eaten[::4096] = b"x" * len(self.eaten[::4096])
        return len(self.eaten)


@component
class Bystander:
    """Has nothing to do with Worker."""

    @method(idempotent=True)
    async def pid(self) -> int:
        return os.getpid()


@component
class Door:
    """A page that needs Worker."""

    def __init__(self, worker: Worker, bystander: Bystander) -> None:
        self.worker = worker
        self.bystander = bystander

    @method(idempotent=True, timeout=30.0)
    async def wait(self, seconds: float) -> int:
        return await self.worker.wait(seconds)

    def http(self) -> Any:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            who = self.bystander if scope["path"] == "/bystander" else self.worker
            body = str(await who.pid()).encode()
            length = (b"content-length", str(len(body)).encode())
            await send({"type": "http.response.start", "status": 200, "headers": [length]})
            await send({"type": "http.response.body", "body": body})

        return app


app = Application(Door, Bystander, Worker, name="yard")

"""An application whose misbehaviour a test commands: by calls, and by files in its folder."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec

from fissile import Application, component, method

FOLDER = Path(__file__).parent


class NoStock(Exception):
    """Declared by Back."""

    def __init__(self, item: str, left: int) -> None:
        super().__init__(f"only {left} of {item} are left")
        self.item = item
        self.left = left

    item: str
    left: int


class BackConfig(msgspec.Struct, frozen=True):
    secret: str = ""


@component
class Back:
    """Serves, or does what it is told to."""

    def __init__(self, config: BackConfig) -> None:
        self.config = config

    async def start(self) -> None:
        if (FOLDER / "back-cannot-start").exists():
            raise RuntimeError("the database is not there")
        if (FOLDER / "back-starts-slowly").exists():
            print("back takes its time")
        while (FOLDER / "back-starts-slowly").exists():
            await asyncio.sleep(0.01)
        if (FOLDER / "back-dies").exists():
            os.kill(os.getpid(), signal.SIGKILL)
        print("back starts")

    async def stop(self) -> None:
        print("back stops")
        print("its last words", file=sys.stderr)

    @method(idempotent=True)
    async def pid(self) -> int:
        return os.getpid()

    @method(idempotent=True)
    async def secret_length(self) -> int:
        return len(self.config.secret)

    @method(timeout=20.0)
    async def slow(self, seconds: float) -> int:
        print("slow begins")
        await asyncio.sleep(seconds)
        return os.getpid()

    @method(timeout=20.0, idempotent=True)
    async def wait(self, seconds: float) -> int:
        await asyncio.sleep(seconds)
        return os.getpid()

    async def eat(self, mebibytes: int) -> int:
        self.eaten = bytearray(mebibytes * 2**20)
        self.eaten[::4096] = b"x" * len(self.eaten[::4096])
        return len(self.eaten)

    async def stick(self, seconds: float) -> None:
        time.sleep(seconds)  # noqa: ASYNC251 -- that is the mistake to be found

    @method(timeout=0.2)
    async def cling(self) -> None:
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                pass  # that is the mistake to be found

    async def total(self, numbers: tuple[int, ...]) -> int:
        return sum(numbers)

    async def variables(self, prefix: str) -> dict[str, str]:
        return {name: value for name, value in os.environ.items() if name.startswith(prefix)}

    async def files(self, count: int) -> int:
        return len([Path(os.devnull).open() for _ in range(count)])  # noqa: ASYNC230

    async def write(self, path: str) -> str:
        try:
            (FOLDER / path).write_text("x")
        except OSError as error:
            return error.strerror or ""
        return "written"

    @method(timeout=20.0)
    async def attack(self, code: str) -> str:
        """What somebody does who has broken into this service: run code, whose `attack` says what came of it."""
        space: dict[str, Any] = {}
        exec(code, space)
        try:
            return str(await asyncio.to_thread(space["attack"]))
        except OSError as error:
            return f"{type(error).__name__}: {error.strerror}"

    @method(raises=(NoStock,))
    async def take(self, item: str) -> None:
        if item == "bug":
            raise KeyError(item)
        raise NoStock(item, 2)

    async def exit(self, code: int) -> None:
        os._exit(code)

    async def say(self, text: str, times: int = 1) -> None:
        for _ in range(times):
            print(text)

    async def deaf(self) -> None:
        """Once this is answered, take no signal and no turn of the loop any more."""
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        asyncio.get_running_loop().call_later(0.1, time.sleep, 3600)

    async def count(self, to: int) -> AsyncIterator[int]:
        for number in range(to):
            yield number


@component
class Pages:
    """A page that needs Back, and one that does not."""

    def __init__(self, back: Back) -> None:
        self.back = back

    async def stop(self) -> None:
        print("pages stops")

    @method(idempotent=True)
    async def back_pid(self) -> int:
        return await self.back.pid()

    async def total_of_back(self) -> int:
        numbers: Any = [1, 2, 3]  # that is the mistake to be found: a list for a tuple
        return await self.back.total(numbers)

    @method(idempotent=True)
    async def clinging_back(self) -> None:
        await self.back.cling()

    @method(timeout=20.0, idempotent=True)
    async def slow_back(self, seconds: float) -> int:
        return await self.back.wait(seconds)

    def http(self) -> Any:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            if scope["path"] == "/back":
                text = str(await self.back.pid())
            elif scope["path"] == "/slow":
                print("slow page begins")
                await asyncio.sleep(0.3)
                text = str(os.getpid())
            else:
                text = str(os.getpid())
            body = text.encode()
            length = (b"content-length", str(len(body)).encode())
            await send({"type": "http.response.start", "status": 200, "headers": [length]})
            await send({"type": "http.response.body", "body": body})

        return app


app = Application(Pages, Back, name="sample")

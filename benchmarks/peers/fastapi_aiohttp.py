"""FastAPI on uvicorn, called by aiohttp."""

from typing import Any

import aiohttp
from work import LOCALE, USER

from peers.fastapi_server import IDLE_SECONDS_MAX, Cart, Request, serve

__all__ = ["connect", "serve"]
_kept: list[Any] = []


async def connect(address: str, callers: int) -> Any:
    """Connect, with a connection for each caller."""
    connector = aiohttp.UnixConnector(address.removeprefix("unix:"), limit=callers, keepalive_timeout=IDLE_SECONDS_MAX)
    session = aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(10.0))
    _kept.append(session)
    headers = {"content-type": "application/json"}

    async def call() -> Any:
        body = Request(user=USER, locale=LOCALE).model_dump_json().encode()
        async with session.post("http://carts/cart", data=body, headers=headers) as answer:
            return Cart.model_validate_json(await answer.read())

    return {"cart": call}

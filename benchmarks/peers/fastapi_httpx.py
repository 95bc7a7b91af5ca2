"""FastAPI on uvicorn, called by httpx."""

from typing import Any

import httpx
from work import LOCALE, USER

from peers.fastapi_server import Cart, Request, serve

__all__ = ["connect", "serve"]
_kept: list[Any] = []


async def connect(address: str) -> Any:
    """Connect."""
    # By default httpx keeps 20 connections only, and would make new ones all the time.
    limits = httpx.Limits(max_connections=64, max_keepalive_connections=64)
    transport = httpx.AsyncHTTPTransport(uds=address.removeprefix("unix:"), limits=limits)
    client = httpx.AsyncClient(transport=transport, timeout=10.0)
    _kept.append(client)
    headers = {"content-type": "application/json"}

    async def call() -> Any:
        body = Request(user=USER, locale=LOCALE).model_dump_json().encode()
        answer = await client.post("http://carts/cart", content=body, headers=headers)
        answer.raise_for_status()
        return Cart.model_validate_json(answer.content)

    return call

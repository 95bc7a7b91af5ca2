"""FastAPI on uvicorn, called by httpx.

What makes it fast: sniffio is installed (httpcore imports it in every call, and a failing import is slow), no
connection is ever made anew (its default keeps 20), and the pool is no larger than its callers need: httpcore
looks through all of its connections and waiting requests whenever one comes or goes.
"""

from typing import Any

import httpx
import sniffio
from work import LOCALE, USER

from peers.fastapi_server import Cart, Request, serve

__all__ = ["connect", "serve"]
_kept: list[Any] = []


async def connect(address: str, callers: int) -> Any:
    """Connect, with a connection for each caller."""
    if sniffio.current_async_library() != "asyncio":
        raise RuntimeError("httpx would be measured at its worst")
    limits = httpx.Limits(max_connections=callers, max_keepalive_connections=callers, keepalive_expiry=None)
    transport = httpx.AsyncHTTPTransport(uds=address.removeprefix("unix:"), limits=limits)
    client = httpx.AsyncClient(transport=transport, timeout=10.0)
    _kept.append(client)
    headers = {"content-type": "application/json"}

    async def call() -> Any:
        body = Request(user=USER, locale=LOCALE).model_dump_json().encode()
        answer = await client.post("http://carts/cart", content=body, headers=headers)
        answer.raise_for_status()
        return Cart.model_validate_json(answer.content)

    return {"cart": call}

"""FastAPI on uvicorn (uvloop, httptools), on a Unix socket: the server of two peers."""

import asyncio
import socket
from typing import Any

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from work import LINES

IDLE_SECONDS_MAX = 600
_kept: list[Any] = []


class Request(BaseModel):
    """The request."""

    user: int
    locale: str


class Line(BaseModel):
    """One line item."""

    product_id: int
    title: str
    quantity: int
    price_cents: int


class Cart(BaseModel):
    """The reply."""

    user_id: int
    currency: str
    lines: list[Line]


app = FastAPI()


@app.post("/cart")
async def cart(request: Request) -> Cart:
    """A cart with ten lines."""
    lines = [
        Line(product_id=1000 + i, title=f"product {i}", quantity=i + 1, price_cents=1999 + i) for i in range(LINES)
    ]
    return Cart(user_id=request.user, currency=request.locale, lines=lines)


async def serve(address: str) -> None:
    """Listen."""
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(address.removeprefix("unix:"))
    sock.listen(128)
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        lifespan="off",
        # While others are measured it is idle for longer than the usual 5 s, and is not to pay for new connections.
        timeout_keep_alive=IDLE_SECONDS_MAX,
    )
    server = uvicorn.Server(config)
    _kept.append(asyncio.get_running_loop().create_task(server.serve(sockets=[sock])))

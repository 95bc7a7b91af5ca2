"""The same shop front by FastAPI, without Fissile: in one process, or with a service for each component.

`fastapi_shop.py one PORT` or `fastapi_shop.py aiohttp|httpx PORT FOLDER`: prints the pids of its processes once they
listen, and ends when its input does. In one process the components hold each other. As services each method is a POST
with pydantic models of the same fields on both sides, over Unix sockets in FOLDER; the models, the routes and the
clients are derived from the components, as somebody would write them by hand.
"""

import asyncio
import gc
import inspect
import json
import os
import socket
import sys
from collections.abc import Awaitable, Callable
from functools import cache
from types import SimpleNamespace
from typing import Any, get_args, get_origin, get_type_hints

import aiohttp
import httpx
import msgspec
import shopfront
import sniffio  # without it httpx imports it in vain in every call
import uvicorn
import uvloop
from fastapi import FastAPI
from pydantic import BaseModel, TypeAdapter, create_model

COMPONENTS = (
    shopfront.Sessions,
    shopfront.Catalogue,
    shopfront.Prices,
    shopfront.Stock,
    shopfront.Opinions,
    shopfront.Recommendations,
    shopfront.Cart,
    shopfront.Shipping,
    shopfront.Ads,
    shopfront.Page,
)
TIMEOUT_SECONDS = 10.0
IDLE_SECONDS_MAX = 600
# Of 4, 8, 16 and 64 connections to each service: httpx is fastest with the fewest, aiohttp with any.
HTTPX_CONNECTIONS = 4
AIOHTTP_CONNECTIONS = 64
Send = Callable[[str, bytes], Awaitable[bytes]]


def references(kind: type) -> dict[str, type]:
    """What a component's constructor asks for."""
    hints = get_type_hints(kind.__init__)
    return {name: hint for name, hint in hints.items() if hint in COMPONENTS}


def methods(kind: type) -> dict[str, Any]:
    """Its public methods."""
    return {name: f for name, f in inspect.getmembers(kind, inspect.iscoroutinefunction) if not name.startswith("_")}


@cache
def model_of(annotation: Any) -> Any:
    """The pydantic type of the same fields."""
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        fields: dict[str, Any] = {f.name: (model_of(f.type), ...) for f in msgspec.structs.fields(annotation)}
        return create_model(annotation.__name__, **fields)
    if get_origin(annotation) is tuple:
        return tuple[tuple(one if one is ... else model_of(one) for one in get_args(annotation))]
    return annotation


@cache
def request_of(function: Any) -> type[BaseModel]:
    """The model of a method's arguments."""
    hints = get_type_hints(function)
    fields: dict[str, Any] = {name: (model_of(hint), ...) for name, hint in hints.items() if name != "return"}
    return create_model("Request", **fields)


def service_of(instance: Any) -> FastAPI:
    """A component as a service."""
    app = FastAPI()
    for name, function in methods(type(instance)).items():
        app.post(f"/{name}", response_model=model_of(get_type_hints(function)["return"]))(_endpoint(instance, name))
    return app


def _endpoint(instance: Any, name: str) -> Any:
    call = getattr(instance, name)
    request = request_of(getattr(type(instance), name))
    names = tuple(request.model_fields)

    async def endpoint(body: Any) -> Any:
        return await call(*[getattr(body, one) for one in names])

    endpoint.__annotations__ = {"body": request}
    return endpoint


def client_of(kind: type, send: Send) -> Any:
    """A component that is elsewhere."""
    return SimpleNamespace(**{name: _stub(function, send, f"/{name}") for name, function in methods(kind).items()})


def _stub(function: Any, send: Send, path: str) -> Any:
    request = request_of(function)
    names = tuple(request.model_fields)
    decode = TypeAdapter(model_of(get_type_hints(function)["return"])).validate_json

    async def call(*values: Any) -> Any:
        body = request(**dict(zip(names, values, strict=True)))
        return decode(await send(path, body.model_dump_json().encode()))

    return call


def by_aiohttp(path: str) -> Send:
    """A way to a Unix socket."""
    connector = aiohttp.UnixConnector(path, limit=AIOHTTP_CONNECTIONS, keepalive_timeout=IDLE_SECONDS_MAX)
    session = aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(TIMEOUT_SECONDS))
    headers = {"content-type": "application/json"}

    async def send(method: str, body: bytes) -> bytes:
        async with session.post(f"http://service{method}", data=body, headers=headers) as answer:
            answer.raise_for_status()
            return await answer.read()

    return send


def by_httpx(path: str) -> Send:
    """A way to a Unix socket."""
    assert sniffio.current_async_library() == "asyncio"
    limits = httpx.Limits(
        max_connections=HTTPX_CONNECTIONS, max_keepalive_connections=HTTPX_CONNECTIONS, keepalive_expiry=None
    )
    session = httpx.AsyncClient(
        transport=httpx.AsyncHTTPTransport(uds=path, limits=limits), base_url="http://service", timeout=TIMEOUT_SECONDS
    )
    headers = {"content-type": "application/json"}

    async def send(method: str, body: bytes) -> bytes:
        answer = await session.post(method, content=body, headers=headers)
        answer.raise_for_status()
        return answer.content

    return send


WAYS = {"aiohttp": by_aiohttp, "httpx": by_httpx}


def whole() -> Any:
    """The page with all its components in this process."""
    made: dict[type, Any] = {}
    for kind in COMPONENTS:
        made[kind] = kind(**{name: made[target] for name, target in references(kind).items()})
    return made[shopfront.Page].http()


def part(kind: type, way: str, folder: str) -> Any:
    """One component, with clients for those that it needs."""
    clients = {
        name: client_of(target, WAYS[way](f"{folder}/{target.__name__}")) for name, target in references(kind).items()
    }
    instance = kind(**clients)
    return instance.http() if kind is shopfront.Page else service_of(instance)


async def _serve(make: Callable[[], Any], sock: socket.socket, alive: int) -> None:
    config = uvicorn.Config(
        make(), log_level="warning", access_log=False, lifespan="off", timeout_keep_alive=IDLE_SECONDS_MAX
    )
    serving = asyncio.create_task(uvicorn.Server(config).serve(sockets=[sock]))
    over = asyncio.Event()
    asyncio.get_running_loop().add_reader(alive, over.set)
    gc.collect()
    gc.freeze()
    await asyncio.wait([serving, asyncio.create_task(over.wait())], return_when=asyncio.FIRST_COMPLETED)
    os._exit(0)


def _public(port: int) -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", port))
    return sock


def _private(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(path)
    return sock


def main(kind: str, port: int, folder: str) -> None:
    """A process for each service; this one only waits."""
    services: list[tuple[Callable[[], Any], socket.socket]] = []
    if kind == "one":
        services.append((whole, _public(port)))
    else:
        for one in COMPONENTS:
            sock = _public(port) if one is shopfront.Page else _private(f"{folder}/{one.__name__}")
            services.append((lambda one=one: part(one, kind, folder), sock))
    for _, sock in services:
        sock.listen(1024)
    alive, ended = os.pipe()
    pids: list[int] = []
    for make, sock in services:
        pid = os.fork()
        if pid == 0:
            os.close(ended)
            uvloop.run(_serve(make, sock, alive))
        pids.append(pid)
    print(json.dumps(pids), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else "")

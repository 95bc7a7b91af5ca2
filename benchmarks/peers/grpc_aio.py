"""grpc.aio with protobuf, on its defaults but for a Unix socket and uvloop."""

import importlib
import sys
from pathlib import Path
from typing import Any

import grpc
from work import ITEMS, LINES, LOCALE, USER

PROTO = Path(__file__).with_name("cart.proto")
MADE = Path(__file__).parents[2] / "build" / "bench"
_kept: list[Any] = []
_channels: list[Any] = []


def prepare() -> None:
    """Compile the .proto; once, before the processes start."""
    from grpc_tools import protoc

    MADE.mkdir(parents=True, exist_ok=True)
    out = [f"--python_out={MADE}", f"--grpc_python_out={MADE}"]
    if protoc.main(["protoc", f"-I{PROTO.parent}", *out, str(PROTO)]) != 0:
        raise RuntimeError(f"{PROTO} cannot be compiled")


def _generated() -> tuple[Any, Any]:
    if str(MADE) not in sys.path:
        sys.path.insert(0, str(MADE))
    return importlib.import_module("cart_pb2"), importlib.import_module("cart_pb2_grpc")


async def serve(address: str) -> None:
    """Listen."""
    messages, services = _generated()

    class Carts(services.CartsServicer):
        async def Get(self, request: Any, context: Any) -> Any:
            lines = [
                messages.Line(product_id=1000 + i, title=f"product {i}", quantity=i + 1, price_cents=1999 + i)
                for i in range(LINES)
            ]
            return messages.Cart(user_id=request.user, currency=request.locale, lines=lines)

        async def Items(self, request: Any, context: Any) -> Any:
            for number in range(request.count):
                yield messages.Line(product_id=1000 + number, title="product", quantity=number + 1, price_cents=1999)

    server = grpc.aio.server()
    services.add_CartsServicer_to_server(Carts(), server)
    server.add_insecure_port(address)
    await server.start()
    _kept.append(server)


async def connect(address: str, _callers: int) -> Any:
    """Connect. Every call has a deadline, as Fissile's have; one channel carries all of them."""
    messages, services = _generated()
    if not _channels:
        _channels.append(grpc.aio.insecure_channel(address))
    stub = services.CartsStub(_channels[0])

    async def call() -> Any:
        return await stub.Get(messages.Request(user=USER, locale=LOCALE), timeout=10.0)

    def items() -> Any:
        return stub.Items(messages.Count(count=ITEMS), timeout=10.0)

    return {"cart": call, "items": items}

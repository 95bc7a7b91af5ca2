"""The example shop, whole and split: what a purchase costs, and whether a restart loses a request.

Both run at the same time, each on a copy of the example with data of its own, and are measured in
turns. A purchase is four requests: see a product, put it into the cart, see the checkout page, pay. CPU is
that of all processes of the application, supervisor and zygote included.
"""

import asyncio
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from html import unescape
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import uvloop

from fissile.bench.report import Figure, figure
from fissile.bench.stats import median, quantile

SHOP = Path(__file__).parents[1] / "examples" / "shop"
TOPOLOGIES = ("monolith", "microservices")
CUSTOMERS = 4
PURCHASES_PER_ROUND = 40
RESTARTS = 3
BROWSERS = 8
START_SECONDS_MAX = 120.0
STOP_SECONDS_MAX = 20.0
ADDRESS = {"name": "Ada Byron", "street": "12 St James's Square", "postcode": "SW1Y 4JH", "city": "London"}
CARD = {"number": "4242 4242 4242 4242", "expiry": "12/40", "code": "123"}


@dataclass
class Found:
    """By topology: milliseconds of each payment request, CPU milliseconds per purchase by round."""

    paid_ms: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in TOPOLOGIES})
    cpu_ms: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in TOPOLOGIES})
    failed: dict[str, int] = field(default_factory=dict)
    requests: dict[str, int] = field(default_factory=dict)


class RunningShop:
    """`fissile run` on a copy of the example."""

    def __init__(self, folder: Path, topology: str) -> None:
        shutil.copytree(SHOP, folder, ignore=shutil.ignore_patterns("data", ".fissile", "__pycache__"))
        self.folder = folder
        fissile = Path(sys.executable).with_name("fissile")
        self._log = (folder / "log").open("w")
        command = [str(fissile), "run", str(folder), "--topology", topology, "--port", "0"]
        self._process = subprocess.Popen(command, stdout=self._log, stderr=subprocess.STDOUT)

    def address(self) -> str:
        """The Frontend's, once the shop is up."""
        limit = time.monotonic() + START_SECONDS_MAX
        while time.monotonic() < limit and self._process.poll() is None:
            found = re.search(r"Frontend\s+(http://\S+)", (self.folder / "log").read_text())
            if found:
                return found[1]
            time.sleep(0.05)
        raise RuntimeError(f"the shop did not start:\n{(self.folder / 'log').read_text()}")

    def cpu_seconds(self) -> float:
        """CPU time of all its processes so far."""
        root = psutil.Process(self._process.pid)
        times = [process.cpu_times() for process in [root, *root.children(recursive=True)]]
        return sum(each.user + each.system for each in times)

    async def restart(self, service: str) -> None:
        """Replace the replicas of a service."""
        fissile = str(Path(sys.executable).with_name("fissile"))
        child = await asyncio.create_subprocess_exec(fissile, "restart", service, "--path", str(self.folder))
        if await child.wait() != 0:
            raise RuntimeError(f"{service} was not restarted:\n{(self.folder / 'log').read_text()[-2000:]}")

    def stop(self) -> None:
        """Ctrl-C."""
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()


class Customer:
    """Buys, with the forms of the pages and their hidden fields, but no browser."""

    def __init__(self, address: str, email: str) -> None:
        self._address = address
        self._email = email
        self._http = aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True))

    async def _get(self, path: str) -> str:
        async with self._http.get(self._address + path) as answer:
            answer.raise_for_status()
            return await answer.text()

    async def _send(self, page: str, action: str, **fields: str) -> tuple[int, float]:
        form = re.search(rf'<form[^>]*action="{re.escape(action)}".*?</form>', page, re.DOTALL)
        if form is None:
            raise RuntimeError(f"no form goes to {action} on the page:\n{page}")
        hidden = re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', form[0])
        body = {name: unescape(value) for name, value in hidden} | fields
        begun = time.perf_counter()
        async with self._http.post(self._address + action, data=body, allow_redirects=False) as answer:
            text = await answer.text()
        taken = (time.perf_counter() - begun) * 1000
        if answer.status != 303:
            raise RuntimeError(f"{action} was answered with {answer.status}:\n{text}")
        return answer.status, taken

    async def sign_up(self) -> str:
        """Become known; the page of a product to buy."""
        page = await self._get("/sign-up")
        await self._send(page, "/sign-up", name="Ada", email=self._email, password="correct horse battery")
        products = re.findall(r'href="(/products/[\w-]+)"', await self._get("/products"))
        return products[0]

    async def buy(self, product: str) -> float:
        """One purchase; milliseconds of its payment request."""
        await self._send(await self._get(product), "/cart/add", quantity="1")
        page = await self._get("/checkout")
        _, taken = await self._send(page, "/checkout", **ADDRESS, **CARD)
        return taken

    async def close(self) -> None:
        """Close its connections."""
        await self._http.close()


async def _purchases(customers: list[Customer], products: list[str]) -> list[float]:
    each = PURCHASES_PER_ROUND // len(customers)

    async def shop(customer: Customer, product: str) -> list[float]:
        return [await customer.buy(product) for _ in range(each)]

    taken = await asyncio.gather(*(shop(c, p) for c, p in zip(customers, products, strict=True)))
    return [ms for one in taken for ms in one]


async def _measure_purchases(shops: dict[str, RunningShop], rounds: int, found: Found) -> None:
    customers = {
        name: [Customer(shop.address(), f"ada{i}@example.com") for i in range(CUSTOMERS)]
        for name, shop in shops.items()
    }
    try:
        products = {name: [await each.sign_up() for each in those] for name, those in customers.items()}
        for name, those in customers.items():  # once to warm up
            await _purchases(those, products[name])
        for _ in range(rounds):
            for name, shop in shops.items():
                before = shop.cpu_seconds()
                taken = await _purchases(customers[name], products[name])
                found.cpu_ms[name].append((shop.cpu_seconds() - before) * 1000 / len(taken))
                found.paid_ms[name] += taken
    finally:
        for those in customers.values():
            for customer in those:
                await customer.close()


async def _browse(address: str, *, keep_alive: bool, ended: asyncio.Event) -> tuple[int, int]:
    """Ask for the front page until it is over: how many requests, how many failed."""
    made = failed = 0
    connector = aiohttp.TCPConnector(force_close=not keep_alive)
    async with aiohttp.ClientSession(connector=connector) as http:
        while not ended.is_set():
            made += 1
            try:
                async with http.get(address) as answer:
                    await answer.read()
                    failed += answer.status != 200
            except (aiohttp.ClientError, OSError):
                failed += 1
    return made, failed


async def _measure_restarts(shop: RunningShop, found: Found) -> None:
    for kind, keep_alive in (("new connections", False), ("keep-alive", True)):
        ended = asyncio.Event()
        address = shop.address()
        browsers = [asyncio.create_task(_browse(address, keep_alive=keep_alive, ended=ended)) for _ in range(BROWSERS)]
        try:
            for _ in range(RESTARTS):
                await shop.restart("frontend")
        finally:
            ended.set()
            counts = await asyncio.gather(*browsers)
        found.requests[kind] = sum(made for made, _ in counts)
        found.failed[kind] = sum(failed for _, failed in counts)


def measure(rounds: int) -> Found:
    """Purchases in turns, then restarts of the Frontend under load."""
    found = Found()
    with tempfile.TemporaryDirectory(prefix="fissile-bench-") as folder:
        shops = {name: RunningShop(Path(folder) / name, name) for name in TOPOLOGIES}

        async def all_of_it() -> Any:
            await _measure_purchases(shops, rounds, found)
            await _measure_restarts(shops["microservices"], found)

        try:
            uvloop.run(all_of_it())
        finally:
            for shop in shops.values():
                shop.stop()
    return found


def figures(found: Found) -> Iterable[Figure]:
    """What a purchase costs in each topology, and what a restart loses."""
    for kind, failed in found.failed.items():
        name = f"restart of Frontend: failed of {found.requests[kind]} requests, {kind}"
        yield figure(name, float(failed), "requests", "<= 0")
    for topology in TOPOLOGIES:
        yield figure(f"shop, {topology}: payment request p50", median(found.paid_ms[topology]), "ms")
        yield figure(f"shop, {topology}: payment request p99", quantile(found.paid_ms[topology], 0.99), "ms")
        yield figure(f"shop, {topology}: CPU per purchase (four requests)", median(found.cpu_ms[topology]), "ms")

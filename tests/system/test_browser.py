"""A customer in a real browser cannot tell how the shop is split, nor that a part of it was killed."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

sys.path.insert(0, str(Path(__file__).parent))

from shopper import CHROMIUM, chromium, pay, put_into_cart, sign_up, visiting

SHOP = Path(__file__).parents[2] / "examples" / "shop"
START_SECONDS_MAX = 30.0
STOP_SECONDS_MAX = 20.0
RETURN_SECONDS_MAX = 20.0

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium: apt-get install chromium")


class RunningShop:
    """`fissile run` on a copy of the example, so that its data and state are this test's own."""

    def __init__(self, folder: Path, topology: str) -> None:
        self.folder = folder
        self._lines: list[str] = []
        self._address = ""
        self._found = threading.Event()
        fissile = Path(sys.executable).with_name("fissile")
        command = [str(fissile), "run", str(folder), "--topology", topology, "--port", "0"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.append(line)
            found = re.match(r"\s*Frontend\s+(http://\S+)", line)
            if found:
                self._address = found[1]
                self._found.set()
        self._found.set()

    @property
    def address(self) -> str:
        """The Frontend's, once it is up."""
        self._found.wait(START_SECONDS_MAX)
        assert self._address, f"the shop did not start:\n{self.output}"
        return self._address

    @property
    def output(self) -> str:
        return "".join(self._lines)

    def pid(self, service: str) -> int:
        """The process of a service's only replica."""
        command = [sys.executable, "-m", "fissile", "status", str(self.folder), "--json"]
        services = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)["services"]
        return next(each["replicas"][0]["pid"] for each in services if each["name"] == service)

    def stop(self) -> int:
        """Ctrl-C; the exit code."""
        self.process.send_signal(signal.SIGINT)
        try:
            return self.process.wait(STOP_SECONDS_MAX)
        finally:
            self.process.kill()


@pytest.fixture
def folder() -> Iterator[Path]:
    # Not pytest's own folder: a path of a Unix socket must be short.
    with tempfile.TemporaryDirectory(prefix="shop-") as name:
        ignored = shutil.ignore_patterns("data", ".fissile", "__pycache__")
        yield Path(shutil.copytree(SHOP, Path(name) / "shop", ignore=ignored))


@pytest.fixture
def shop(folder: Path, topology: str) -> Iterator[RunningShop]:
    running = RunningShop(folder, topology)
    try:
        yield running
    finally:
        code = running.stop()
        print(running.output)  # pytest shows it if the test failed
    assert code == 0


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture
def page(browser: Browser, shop: RunningShop) -> Iterator[Page]:
    with visiting(browser, shop.address) as found:
        yield found


def broken_pictures(page: Page) -> list[str]:
    pictures = page.get_by_role("main").locator("img")
    return [
        source
        for source in (pictures.nth(i).get_attribute("src") or "" for i in range(pictures.count()))
        if page.request.get(source).headers["content-type"] != "image/webp"
    ]


@pytest.mark.parametrize("topology", ["monolith", "microservices"])
def test_buys_something(page: Page, shop: RunningShop) -> None:
    page.goto("/")
    expect(page.get_by_role("heading", name="Things worth keeping.")).to_be_visible()
    assert broken_pictures(page) == []
    page.get_by_role("link", name="Lighting").click()
    expect(page.get_by_text("36 products")).to_be_visible()
    page.get_by_role("link", name="Next").click()
    expect(page.get_by_text("Page 2 of 2")).to_be_visible()

    put_into_cart(page, "Fjord Teapot")
    page.get_by_role("link", name="Check out").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    sign_up(page)
    page.goto("/checkout")
    pay(page, "4000 0000 0000 0002")
    expect(page.get_by_text("The bank declined this card.")).to_be_visible()
    pay(page, "4242 4242 4242 4242")
    expect(page.get_by_role("heading", name="Thank you!")).to_be_visible()
    expect(page.get_by_text("Card ending in 4242")).to_be_visible()

    page.get_by_role("link", name="All your orders").click()
    expect(page.get_by_role("main").get_by_text("paid", exact=True)).to_have_count(1)
    expect(page.get_by_role("main").get_by_text("declined", exact=True)).to_have_count(1)
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("link", name="Sign in", exact=True)).to_be_visible()


# What must still work while a service is gone; one that is back by itself.
NEEDED_BY = {
    "recommendations": None,
    "images": None,
    "payments": None,
    "orders": "/orders",
    "auth": None,
    "cart": "/cart",
    "catalog": "/products",
}


@pytest.mark.parametrize("topology", ["microservices"])
def test_survives_the_death_of_a_service(page: Page, shop: RunningShop) -> None:
    page.goto("/")
    sign_up(page)
    put_into_cart(page, "Moss Vase")
    for service, needing in NEEDED_BY.items():
        killed = shop.pid(service)
        os.kill(killed, signal.SIGKILL)
        if service != "catalog":
            page.goto("/products/ember-bowl")
            expect(page.get_by_role("heading", name="Ember Bowl")).to_be_visible()
        deadline = time.monotonic() + RETURN_SECONDS_MAX
        while shop.pid(service) == killed:
            assert time.monotonic() < deadline, f"{service} is not back:\n{shop.output}"
            page.goto("/sign-up")
        if needing is not None:
            response = page.goto(needing)
            assert response is not None
            assert response.status == 200, service
    page.goto("/checkout")
    pay(page, "4242 4242 4242 4242")
    expect(page.get_by_role("heading", name="Thank you!")).to_be_visible()

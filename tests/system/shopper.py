"""A customer of the example shop in a real browser, without JavaScript: the shop has to be complete without it."""

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, Page, expect, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
ARGUMENTS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
)
PAGE_MILLISECONDS_MAX = 15_000
END_SECONDS_MAX = 60.0
ROUNDS_MIN = 2


@contextmanager
def chromium() -> Iterator[Browser]:
    """The browser."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def visiting(browser: Browser, address: str) -> Iterator[Page]:
    """Somebody who comes to the shop for the first time."""
    context = browser.new_context(base_url=address, java_script_enabled=False)
    context.set_default_timeout(PAGE_MILLISECONDS_MAX)
    try:
        yield context.new_page()
    finally:
        context.close()


def sign_up(page: Page) -> None:
    page.get_by_role("link", name="Sign in", exact=True).click()
    page.get_by_role("link", name="Make an account").click()
    page.get_by_label("Name").fill("Ada Byron")
    page.get_by_label("E-mail address").fill("ada@example.com")
    page.get_by_label("Password").fill("correct horse battery")
    page.get_by_role("button", name="Make an account").click()
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()


def put_into_cart(page: Page, product: str) -> None:
    page.get_by_role("searchbox", name="Search products").fill(product)
    page.get_by_role("button", name="Search").click()
    page.get_by_role("link", name=product).click()
    page.get_by_label("Quantity").select_option("2")
    page.get_by_role("button", name="Add to cart").click()
    expect(page.get_by_text(f"{product} is in your cart.")).to_be_visible()


def pay(page: Page, number: str) -> None:
    page.get_by_label("Street and number").fill("12 St James's Square")
    page.get_by_label("Postcode").fill("SW1Y 4JH")
    page.get_by_label("City").fill("London")
    page.get_by_label("Card number").fill(number)
    page.get_by_label("Expires").fill("12/40")
    page.get_by_label("Security code").fill("123")
    page.get_by_role("button", name="Buy now").click()


def look_around(page: Page) -> None:
    """Every page is there, and the customer is still signed in."""
    for path in ("/", "/products/ember-bowl", "/cart", "/orders"):
        response = page.goto(path)
        assert response is not None
        assert response.status == 200, path
        expect(page.get_by_role("button", name="Sign out")).to_be_visible()


@contextmanager
def shopping(address: str) -> Iterator[None]:
    """Somebody signs up, fills the cart, looks around for as long as the block lasts, and then pays.

    Raises what went wrong in the browser.
    """
    begun, enough = threading.Event(), threading.Event()
    troubles: list[BaseException] = []

    def shop() -> None:
        try:
            with chromium() as browser, visiting(browser, address) as page:
                page.goto("/")
                sign_up(page)
                put_into_cart(page, "Moss Vase")
                begun.set()
                rounds = 0
                while rounds < ROUNDS_MIN or not enough.is_set():
                    look_around(page)
                    rounds += 1
                page.goto("/checkout")
                pay(page, "4242 4242 4242 4242")
                expect(page.get_by_role("heading", name="Thank you!")).to_be_visible()
                page.goto("/orders")
                expect(page.get_by_role("main").get_by_text("paid", exact=True)).to_have_count(1)
        except BaseException as trouble:
            troubles.append(trouble)
        finally:
            begun.set()

    thread = threading.Thread(target=shop)
    thread.start()
    try:
        assert begun.wait(END_SECONDS_MAX)
        yield
    finally:
        enough.set()
        thread.join(END_SECONDS_MAX)
    if troubles:
        raise troubles[0]

"""The work that every peer does: a method with a user id and a locale, answered by ten line items.

The reply is made anew for each call, and is a typed object on both sides. Streams are of single line items.
"""

import asyncio
from collections.abc import AsyncIterator

import msgspec

from fissile import component, method

USER = 4711
LOCALE = "de-CH"
LINES = 10
# Items of one stream. What a handler takes that does not answer at once, in seconds.
ITEMS = 10_000
HANDLER_SECONDS = 0.02


class Line(msgspec.Struct, frozen=True, gc=False):
    """One line item."""

    product_id: int
    title: str
    quantity: int
    price_cents: int


class Cart(msgspec.Struct, frozen=True, gc=False):
    """The reply."""

    user_id: int
    currency: str
    lines: tuple[Line, ...]


def make_cart(user: int, locale: str) -> Cart:
    """The reply to a request."""
    lines = tuple(Line(1000 + i, f"product {i}", i + 1, 1999 + i) for i in range(LINES))
    return Cart(user, locale, lines)


def make_line(number: int) -> Line:
    """An item of a stream."""
    return Line(1000 + number, "product", number + 1, 1999)


# An error seldom comes from the method itself: here it comes through about this many plain functions.
DEPTH = 20


def _ask(user: int, locale: str, found: bool, depth: int) -> Cart:
    return _read(user, locale, found, depth - 1) if depth else _find(user, locale, found)


def _read(user: int, locale: str, found: bool, depth: int) -> Cart:
    return _check(user, locale, found, depth - 1) if depth else _find(user, locale, found)


def _check(user: int, locale: str, found: bool, depth: int) -> Cart:
    return _ask(user, locale, found, depth - 1) if depth else _find(user, locale, found)


def _find(user: int, locale: str, found: bool) -> Cart:
    if not found:
        raise LookupError(f"no cart of user {user}")
    return make_cart(user, locale)


@component
class Carts:
    """The callee."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()

    @method
    async def cart(self, user: int, locale: str) -> Cart:
        """A cart with ten lines."""
        return make_cart(user, locale)

    @method
    async def deep(self, user: int, locale: str, found: bool) -> Cart:
        """The same from deep below, or an error that nobody declared."""
        return _ask(user, locale, found, DEPTH)

    @method
    async def wait(self, seconds: float) -> int:
        """Work that waits for something else, as for a database."""
        await asyncio.sleep(seconds)
        return 1

    @method
    async def turn(self, seconds: float) -> int:
        """Work of which a replica does one at a time."""
        async with self._turn:
            await asyncio.sleep(seconds)
        return 1

    async def items(self, count: int) -> AsyncIterator[Line]:
        """So many line items, one after the other."""
        for number in range(count):
            yield make_line(number)


@component
class Caller:
    """The caller: it declares the reference without which its calls would be refused."""

    def __init__(self, carts: Carts) -> None:
        self.carts = carts

"""The work that every peer does: a method with a user id and a locale, answered by ten line items.

The reply is made anew for each call, and is a typed object on both sides.
"""

import msgspec

from fissile import component, method

USER = 4711
LOCALE = "de-CH"
LINES = 10


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


@component
class Carts:
    """The callee."""

    @method
    async def cart(self, user: int, locale: str) -> Cart:
        """A cart with ten lines."""
        return make_cart(user, locale)


@component
class Caller:
    """The caller: it declares the reference without which its calls would be refused."""

    def __init__(self, carts: Carts) -> None:
        self.carts = carts

"""The page of a product in a shop, which needs ten components: some thirty calls, most of them side by side.

The components are plain classes. So the same handlers run as a Fissile application in any topology, and in one FastAPI
process without Fissile's help, where a reference is the object itself.
"""

import asyncio
from pathlib import Path
from typing import Any

import msgspec
from fastapi import FastAPI
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader

from fissile import Application, component, method

PRODUCTS = 200
USERS = 50
SIMILAR = 4
BRANDS = ("Aare", "Birs", "Ergolz", "Limmat", "Reuss")
CATEGORIES = ("lamps", "chairs", "tables", "shelves")
WAREHOUSES = ("Basel", "Bern", "Chur")
REVIEWS = 10
FEATURES = ("Material", "Colour", "Height", "Width", "Depth", "Made in", "Designed by", "Since", "Care", "Warranty")
MENU = tuple((f"/{category}/{brand.lower()}", f"{brand} {category}") for category in CATEGORIES for brand in BRANDS)
FOOTER = tuple((f"/about/{name}", name) for name in ("us", "delivery", "returns", "privacy", "terms", "shops", "jobs"))


class User(msgspec.Struct, frozen=True, gc=False):
    """Who is looking."""

    id: int
    name: str
    locale: str
    currency: str
    country: str
    tier: str


class Product(msgspec.Struct, frozen=True, gc=False):
    """All that the catalogue knows of a product."""

    id: int
    title: str
    brand: str
    category: str
    description: str
    weight_grams: int
    images: tuple[str, ...]
    features: tuple[tuple[str, str], ...]


class Card(msgspec.Struct, frozen=True, gc=False):
    """A product where there is little room."""

    id: int
    title: str
    image: str


class Price(msgspec.Struct, frozen=True, gc=False):
    """What somebody pays."""

    cents: int
    list_cents: int
    currency: str
    discount_percent: int


class Level(msgspec.Struct, frozen=True, gc=False):
    """How many there are."""

    available: int
    warehouse: str
    days: int


class Review(msgspec.Struct, frozen=True, gc=False):
    """What a buyer said."""

    author: str
    stars: int
    text: str


class Reviews(msgspec.Struct, frozen=True, gc=False):
    """What buyers said."""

    count: int
    average: float
    latest: tuple[Review, ...]


class CartLine(msgspec.Struct, frozen=True, gc=False):
    """One line of a cart."""

    title: str
    quantity: int
    cents: int


class CartView(msgspec.Struct, frozen=True, gc=False):
    """A cart with its prices."""

    lines: tuple[CartLine, ...]
    total_cents: int


class Delivery(msgspec.Struct, frozen=True, gc=False):
    """A way to get it."""

    name: str
    cents: int
    days: int


class Banner(msgspec.Struct, frozen=True, gc=False):
    """An advertisement."""

    title: str
    target: str


@component
class Sessions:
    """Who is behind a session."""

    def __init__(self) -> None:
        self._users = {
            f"session-{n}": User(n, f"User {n}", "de-CH", "CHF", "CH", "gold" if n % 5 == 0 else "plain")
            for n in range(USERS)
        }

    @method(idempotent=True)
    async def user(self, session: str) -> User:
        """The user."""
        return self._users[session]


@component
class Catalogue:
    """What there is."""

    @method(idempotent=True)
    async def product(self, product: int) -> Product:
        """All of a product."""
        brand, category = BRANDS[product % len(BRANDS)], CATEGORIES[product % len(CATEGORIES)]
        images = tuple(f"/images/{product}-{n}.webp" for n in range(4))
        text = f"A {category[:-1]} by {brand} that lasts. " * 4
        features = tuple((name, f"{name.lower()} of {product}") for name in FEATURES)
        return Product(product, f"{brand} {product}", brand, category, text, 500 + product * 10, images, features)

    @method(idempotent=True)
    async def card(self, product: int) -> Card:
        """A product in short."""
        return Card(product, f"{BRANDS[product % len(BRANDS)]} {product}", f"/images/{product}-0.webp")


@component
class Prices:
    """What it costs, and whom."""

    @method(idempotent=True)
    async def price(self, product: int, tier: str, currency: str) -> Price:
        """The price of a product for customers of a tier."""
        listed = 1990 + product * 130
        percent = (10 if tier == "gold" else 0) + (5 if product % 7 == 0 else 0)
        return Price(listed * (100 - percent) // 100, listed, currency, percent)


@component
class Stock:
    """How many there are, and where."""

    @method(idempotent=True)
    async def level(self, product: int) -> Level:
        """How many of a product there are in the warehouse that has it."""
        return Level(product * 7 % 30, WAREHOUSES[product % len(WAREHOUSES)], 1 + product % 3)


@component
class Opinions:
    """What buyers say."""

    @method(idempotent=True)
    async def about(self, product: int) -> Reviews:
        """What they say of a product."""
        latest = tuple(
            Review(f"Buyer {n}", 1 + (product + n) % 5, f"Review {n} of {product}. " * 3) for n in range(REVIEWS)
        )
        return Reviews(20 + product, round(sum(review.stars for review in latest) / REVIEWS, 1), latest)


@component
class Recommendations:
    """What else one may like."""

    @method(idempotent=True)
    async def similar(self, product: int, user: int) -> tuple[int, ...]:
        """Other products."""
        return tuple((product * 3 + user + n * 17) % PRODUCTS for n in range(SIMILAR))


@component
class Cart:
    """What somebody is about to buy."""

    def __init__(self, catalogue: Catalogue, prices: Prices) -> None:
        self.catalogue = catalogue
        self.prices = prices

    @method(idempotent=True)
    async def view(self, user: int, tier: str, currency: str) -> CartView:
        """The cart with today's prices."""
        lines = await asyncio.gather(*(self._line((user + n * 11) % PRODUCTS, tier, currency) for n in range(3)))
        return CartView(tuple(lines), sum(line.cents for line in lines))

    async def _line(self, product: int, tier: str, currency: str) -> CartLine:
        card = await self.catalogue.card(product)
        price = await self.prices.price(product, tier, currency)
        return CartLine(card.title, 1 + product % 2, price.cents * (1 + product % 2))


@component
class Shipping:
    """How it gets there."""

    def __init__(self, stock: Stock) -> None:
        self.stock = stock

    @method(idempotent=True)
    async def options(self, product: int, country: str) -> tuple[Delivery, ...]:
        """The ways to send a product to a country."""
        days = (await self.stock.level(product)).days + (0 if country == "CH" else 3)
        return Delivery("post", 700, days + 1), Delivery("express", 1500, days), Delivery("collect", 0, days + 2)


@component
class Ads:
    """What pays for it."""

    @method(idempotent=True)
    async def banners(self, user: int, product: int) -> tuple[Banner, ...]:
        """Advertisements for somebody who looks at a product."""
        return tuple(Banner(f"Offer {n} for you", f"/offers/{(user + product + n) % 90}") for n in range(2))


@component
class Page:
    """The page of a product, and one with nothing on it."""

    def __init__(
        self,
        sessions: Sessions,
        catalogue: Catalogue,
        prices: Prices,
        stock: Stock,
        opinions: Opinions,
        recommendations: Recommendations,
        cart: Cart,
        shipping: Shipping,
        ads: Ads,
    ) -> None:
        self.sessions = sessions
        self.catalogue = catalogue
        self.prices = prices
        self.stock = stock
        self.opinions = opinions
        self.recommendations = recommendations
        self.cart = cart
        self.shipping = shipping
        self.ads = ads
        self._template = _templates().get_template("product.html")

    def http(self) -> Any:
        """Both pages, by FastAPI wherever it runs."""
        app = FastAPI()

        @app.get("/products/{product}")
        async def product_page(product: int, session: str) -> HTMLResponse:
            return HTMLResponse(await self._product(product, session))

        @app.get("/empty")
        async def empty_page(session: str) -> HTMLResponse:
            return HTMLResponse("")

        return app

    async def _product(self, number: int, session: str) -> str:
        user = await self.sessions.user(session)
        product, price, level, opinions, similar, cart, deliveries, banners = await asyncio.gather(
            self.catalogue.product(number),
            self.prices.price(number, user.tier, user.currency),
            self.stock.level(number),
            self.opinions.about(number),
            self._similar(number, user),
            self.cart.view(user.id, user.tier, user.currency),
            self.shipping.options(number, user.country),
            self.ads.banners(user.id, number),
        )
        return self._template.render(
            user=user,
            product=product,
            price=price,
            level=level,
            opinions=opinions,
            similar=similar,
            cart=cart,
            deliveries=deliveries,
            banners=banners,
        )

    async def _similar(self, number: int, user: User) -> list[tuple[Card, Price, Level]]:
        others = await self.recommendations.similar(number, user.id)
        return await asyncio.gather(*(self._offer(other, user) for other in others))

    async def _offer(self, number: int, user: User) -> tuple[Card, Price, Level]:
        return await asyncio.gather(
            self.catalogue.card(number), self.prices.price(number, user.tier, user.currency), self.stock.level(number)
        )


def _templates() -> Environment:
    found = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, auto_reload=False)
    found.filters["money"] = lambda cents: f"{cents / 100:.2f}"
    found.globals.update(menu=MENU, footer=FOOTER)
    return found


app = Application(
    Page, Sessions, Catalogue, Prices, Stock, Opinions, Recommendations, Cart, Shipping, Ads, name="shopfront"
)

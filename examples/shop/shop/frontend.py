"""Frontend: the shop's pages, rendered here, complete without JavaScript.

Each page asks for what it needs and does without what it can: a component that is down takes along
only what cannot be shown without it.
"""

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, TypeVar, get_args

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from fissile import CallError, component
from shop import web
from shop.auth import Auth, LockedOut, SignUpRefused, WrongPassword
from shop.cards import Card, InvalidCard
from shop.cart import QUANTITY_MAX, Cart, CartFull
from shop.catalog import Catalog, NoSuchProduct, ProductId, Sort
from shop.images import ImageName, Images, NoSuchImage, Width
from shop.money import Cents
from shop.orders import Address, EmptyCart, NoSuchOrder, OrderId, OrderLine, Orders, PriceChanged, StillPending
from shop.recommendations import Recommendations
from shop.web import Refused, Visit, number

T = TypeVar("T")
Handler = Callable[[Visit], Awaitable[Response]]

PICTURE_CACHING = "public, max-age=86400, immutable"
SORTS = {
    "featured": "Featured",
    "price-up": "Price, lowest first",
    "price-down": "Price, highest first",
    "name": "Name",
}

_log = logging.getLogger(__name__)


class FrontendConfig(msgspec.Struct, frozen=True):
    """secure_cookies: send cookies over HTTPS only; set it wherever the shop is served so."""

    secure_cookies: bool = False


@component
class Frontend:
    """The shop's pages."""

    def __init__(
        self,
        catalog: Catalog,
        images: Images,
        auth: Auth,
        cart: Cart,
        orders: Orders,
        recommendations: Recommendations,
        config: FrontendConfig,
    ) -> None:
        self._catalog = catalog
        self._images = images
        self._auth = auth
        self._cart = cart
        self._orders = orders
        self._recommendations = recommendations
        self._config = config

    def http(self) -> Starlette:
        """The pages as an ASGI app."""
        page = self._page
        return Starlette(
            routes=[
                Route("/", page(self._home)),
                Route("/products", page(self._products)),
                Route("/products/{id}", page(self._product)),
                Route("/cart", page(self._show_cart)),
                Route("/cart", page(self._change_cart), methods=["POST"]),
                Route("/cart/add", page(self._add_to_cart), methods=["POST"]),
                Route("/sign-up", page(self._show_sign_up)),
                Route("/sign-up", page(self._sign_up), methods=["POST"]),
                Route("/sign-in", page(self._show_sign_in)),
                Route("/sign-in", page(self._sign_in), methods=["POST"]),
                Route("/sign-out", page(self._sign_out), methods=["POST"]),
                Route("/checkout", page(self._show_checkout)),
                Route("/checkout", page(self._check_out), methods=["POST"]),
                Route("/orders", page(self._show_orders)),
                Route("/orders/{id}", page(self._show_order)),
                Route("/orders/{id}/settle", page(self._settle), methods=["POST"]),
                Route("/images/{name}/original.png", self._original),
                Route("/images/{name}/{width:int}.webp", self._thumbnail),
                Route("/style.css", self._style),
                Route("/{rest:path}", page(self._nothing_here)),
            ]
        )

    # What surrounds every page

    def _page(self, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            visit = Visit(request)
            try:
                if request.method == "POST":
                    await visit.read_form()
                await self._recognise(visit)
                response = await handler(visit)
            except Refused as refusal:
                response = visit.page("problem.html", status=refusal.status, message=refusal.message)
            except CallError as error:
                _log.warning("%s %s failed: %s", request.method, request.url.path, error)
                response = visit.page("problem.html", status=503, message=None)
                response.headers["retry-after"] = "5"
            return visit.finish(response, secure=self._config.secure_cookies)

        return endpoint

    async def _recognise(self, visit: Visit) -> None:
        """Who comes, and how full the cart is; a page is shown without either if need be."""
        visit.user, visit.cart_count = await asyncio.gather(
            _or(None, self._auth.user(visit.token)) if visit.token else _now(None),
            _or(None, self._cart.count(visit.cart)) if visit.has_cart else _now(0),
        )

    async def _nothing_here(self, visit: Visit) -> Response:
        raise Refused(404, "There is no such page.")

    # Browsing

    async def _home(self, visit: Visit) -> Response:
        categories, page = await asyncio.gather(self._catalog.categories(), self._catalog.search(size=8))
        return visit.page("home.html", categories=categories, products=page.products)

    async def _products(self, visit: Visit) -> Response:
        query = {name: visit.request.query_params.get(name, "")[:100] for name in ("q", "category", "sort")}
        sort: Sort = query["sort"] if query["sort"] in get_args(Sort) else "featured"
        wanted = number(visit.request.query_params.get("page", ""), 1)
        categories, page = await asyncio.gather(
            self._catalog.categories(), self._catalog.search(query["q"], query["category"], sort, wanted)
        )
        return visit.page("products.html", categories=categories, page=page, query=query, sorts=SORTS)

    async def _product(self, visit: Visit) -> Response:
        id = ProductId(visit.request.path_params["id"])
        product, also = await asyncio.gather(
            self._catalog.product(id), _or((), self._recommendations.goes_with(id)), return_exceptions=True
        )
        if isinstance(product, NoSuchProduct):
            raise Refused(404, "We do not have this product, or no longer.")
        if isinstance(product, BaseException):
            raise product
        return visit.page("product.html", product=product, also=also if isinstance(also, tuple) else ())

    async def _thumbnail(self, request: Request) -> Response:
        name, width = ImageName(request.path_params["name"]), request.path_params["width"]
        if width not in get_args(Width):
            return Response(status_code=404)
        try:
            picture = await self._images.thumbnail(name, width)
        except NoSuchImage:
            return Response(status_code=404)
        except CallError:
            return Response(status_code=503, headers={"retry-after": "5"})
        headers = {"etag": f'"{picture.version}"', "cache-control": PICTURE_CACHING}
        if request.headers.get("if-none-match") == headers["etag"]:
            return Response(status_code=304, headers=headers)
        return Response(picture.data, media_type=picture.media_type, headers=headers)

    async def _original(self, request: Request) -> Response:
        chunks = self._images.original(ImageName(request.path_params["name"]))
        try:
            first = await anext(chunks)
        except NoSuchImage:
            return Response(status_code=404)
        except CallError:
            return Response(status_code=503, headers={"retry-after": "5"})

        async def body() -> Any:
            yield first
            async for chunk in chunks:
                yield chunk

        return StreamingResponse(body(), media_type="image/png", headers={"cache-control": PICTURE_CACHING})

    async def _style(self, request: Request) -> Response:
        return Response(web.STYLE, media_type="text/css", headers={"cache-control": PICTURE_CACHING})

    # The cart

    async def _show_cart(self, visit: Visit) -> Response:
        lines = await self._cart_lines(visit)
        added = visit.request.query_params.get("added", "")
        return visit.page("cart.html", lines=lines, total=_total(lines), added=added, quantity_max=QUANTITY_MAX)

    async def _add_to_cart(self, visit: Visit) -> Response:
        try:
            product = await self._catalog.product(ProductId(visit.form.get("product", "")))
        except NoSuchProduct:
            raise Refused(404, "We do not have this product, or no longer.")
        try:
            await self._cart.add(visit.cart, product.id, number(visit.form.get("quantity", ""), 1))
        except CartFull:
            raise Refused(409, "Your cart is full: please order, or take something out.")
        return visit.redirect("/cart", added=product.id)

    async def _change_cart(self, visit: Visit) -> Response:
        product = ProductId(visit.form.get("product", ""))
        quantity = 0 if "remove" in visit.form else number(visit.form.get("quantity", ""), 1)
        if any(line.product == product for line in await self._cart.lines(visit.cart)):
            await self._cart.change(visit.cart, product, quantity)
        return visit.redirect("/cart")

    async def _cart_lines(self, visit: Visit) -> tuple[OrderLine, ...]:
        lines = await self._cart.lines(visit.cart)
        products = {p.id: p for p in await self._catalog.products(tuple(line.product for line in lines))}
        found = [(products[line.product], line.quantity) for line in lines if line.product in products]
        return tuple(OrderLine(p.id, p.name, p.price, quantity) for p, quantity in found)

    # Who you are

    async def _show_sign_up(self, visit: Visit) -> Response:
        return visit.page("sign_up.html", next=_next(visit), form={}, problems={})

    async def _sign_up(self, visit: Visit) -> Response:
        form = visit.form
        try:
            session = await self._auth.sign_up(form.get("email", ""), form.get("name", ""), form.get("password", ""))
        except SignUpRefused as refusal:
            problems = {refusal.field: refusal.reason}
            return visit.page("sign_up.html", status=422, next=_next(visit), form=form, problems=problems)
        visit.sign_in(session)
        return visit.redirect(_next(visit))

    async def _show_sign_in(self, visit: Visit) -> Response:
        return visit.page("sign_in.html", next=_next(visit), form={}, problem="")

    async def _sign_in(self, visit: Visit) -> Response:
        try:
            session = await self._auth.sign_in(visit.form.get("email", ""), visit.form.get("password", ""))
        except WrongPassword:
            status, problem = 401, "E-mail address or password is wrong."
        except LockedOut as locked:
            minutes = -(-locked.retry_after_seconds // 60)
            status, problem = 429, f"Too many failed tries. Please try again in {minutes} minutes."
        else:
            visit.sign_in(session)
            return visit.redirect(_next(visit))
        return visit.page("sign_in.html", status=status, next=_next(visit), form=visit.form, problem=problem)

    async def _sign_out(self, visit: Visit) -> Response:
        await self._auth.sign_out(visit.token)
        visit.sign_out()
        return visit.redirect("/")

    # Buying

    async def _show_checkout(self, visit: Visit) -> Response:
        if visit.user is None:
            return await self._ask_to_sign_in(visit)
        return await self._checkout_page(visit, key=secrets.token_urlsafe(16))

    async def _checkout_page(
        self, visit: Visit, key: str, status: int = 200, field: str = "", problem: str = ""
    ) -> Response:
        lines = await self._cart_lines(visit)
        if not lines:
            return visit.redirect("/cart")
        problems = {field: problem} if problem else {}
        context: dict[str, Any] = {"lines": lines, "total": _total(lines), "key": key}
        return visit.page("checkout.html", status=status, form=visit.form, problems=problems, **context)

    async def _check_out(self, visit: Visit) -> Response:
        if visit.user is None:
            return await self._ask_to_sign_in(visit)
        form = visit.form
        # The key comes with the form: sent twice, it names the same purchase.
        key = form.get("key", "")[:64] or secrets.token_urlsafe(16)
        address = Address(*(form.get(name, "")[:120] for name in ("name", "street", "postcode", "city")))
        for name, value in msgspec.structs.asdict(address).items():
            if not value:
                return await self._checkout_page(visit, key, 422, name, "Please fill this in.")
        try:
            order = await self._orders.place(
                visit.user.id, visit.cart, key, Cents(number(form.get("expected", ""), 0)), address, _card(form)
            )
        except InvalidCard as invalid:
            return await self._checkout_page(visit, key, 422, invalid.field, invalid.reason)
        except PriceChanged:
            problem = "Your cart or a price has changed meanwhile. Please look at the new total and order again."
            return await self._checkout_page(visit, key, 409, problem=problem)
        except EmptyCart:
            return visit.redirect("/cart")
        except StillPending as pending:
            return visit.redirect(f"/orders/{pending.order}")
        except CallError as error:
            # With the same key, trying again can only ever place the one order.
            _log.warning("checkout failed: %s", error)
            problem = "We cannot reach the bank at the moment. Please try again: you will not be charged twice."
            return await self._checkout_page(visit, key, 503, problem=problem)
        if order.state in ("paid", "pending"):
            return visit.redirect(f"/orders/{order.id}")
        problem = order.reason or "The payment was cancelled. You were not charged."
        return await self._checkout_page(visit, secrets.token_urlsafe(16), 402, "number", problem)

    async def _show_orders(self, visit: Visit) -> Response:
        if visit.user is None:
            return await self._ask_to_sign_in(visit)
        return visit.page("orders.html", orders=await self._orders.orders(visit.user.id), date=_date)

    async def _show_order(self, visit: Visit) -> Response:
        if visit.user is None:
            return await self._ask_to_sign_in(visit)
        try:
            order = await self._orders.order(visit.user.id, OrderId(visit.request.path_params["id"]))
        except NoSuchOrder:
            raise Refused(404, "You have no order with this number.")
        return visit.page("order.html", order=order, date=_date)

    async def _settle(self, visit: Visit) -> Response:
        if visit.user is None:
            return await self._ask_to_sign_in(visit)
        try:
            order = await self._orders.settle(visit.user.id, OrderId(visit.request.path_params["id"]))
        except NoSuchOrder:
            raise Refused(404, "You have no order with this number.")
        return visit.redirect(f"/orders/{order.id}")

    async def _ask_to_sign_in(self, visit: Visit) -> Response:
        if visit.token:
            await self._auth.user(visit.token)  # if Auth is down, say so rather than ask for a password in vain
        path = visit.request.url.path if visit.request.method == "GET" else "/cart"
        return visit.redirect("/sign-in", next=path)


async def _or(otherwise: Any, call: Awaitable[T]) -> T | Any:
    """What the call yields, or something else if its component cannot answer."""
    try:
        return await call
    except CallError as error:
        _log.info("doing without: %s", error)
        return otherwise


async def _now(value: T) -> T:
    return value


def _total(lines: tuple[OrderLine, ...]) -> Cents:
    return Cents(sum(line.total for line in lines))


def _next(visit: Visit) -> str:
    return web.own_path(visit.form.get("next") or visit.request.query_params.get("next", ""))


def _date(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%-d %B %Y, %H:%M} UTC"


def _card(form: dict[str, str]) -> Card:
    month, _, year = form.get("expiry", "").replace(" ", "").partition("/")
    full_year = number(year, 0) + (2000 if len(year) == 2 else 0)
    digits = form.get("number", "").replace(" ", "").replace("-", "")[:30]
    return Card(digits, number(month, 0), full_year, form.get("code", "")[:8], form.get("name", "")[:120])

"""Catalog: what is for sale, and finding it."""

from typing import Literal, NewType

import msgspec
from sqlalchemy import Column, Connection, Integer, MetaData, RowMapping, String, Table, and_, func, insert, or_, select

from fissile import component, method
from shop.database import Database, sqlite
from shop.goods import CATEGORIES, all_goods
from shop.money import Cents

ProductId = NewType("ProductId", str)
Sort = Literal["featured", "price-up", "price-down", "name"]

PAGE_SIZE_MAX = 60
WORDS_MAX = 8

_tables = MetaData()
_products = Table(
    "product",
    _tables,
    Column("id", String, primary_key=True),
    Column("position", Integer, nullable=False),
    Column("name", String, nullable=False),
    Column("category", String, nullable=False, index=True),
    Column("price", Integer, nullable=False),
    Column("about", String, nullable=False),
)
# What follows the one that was asked for breaks ties, so that pages never overlap.
_orders = {
    "featured": (_products.c.position,),
    "price-up": (_products.c.price, _products.c.position),
    "price-down": (_products.c.price.desc(), _products.c.position),
    "name": (_products.c.name, _products.c.position),
}


class Product(msgspec.Struct, frozen=True):
    """One thing that can be bought."""

    id: ProductId
    name: str
    category: str
    price: Cents
    about: str


class Category(msgspec.Struct, frozen=True):
    """A part of the assortment. size: the number of its products."""

    name: str
    size: int


class Page(msgspec.Struct, frozen=True):
    """One page of what was found. number: from 1. total: over all pages."""

    products: tuple[Product, ...]
    number: int
    pages: int
    total: int


class NoSuchProduct(Exception):
    """There is no product with this id."""

    product: str

    def __init__(self, product: str) -> None:
        super().__init__(product)
        self.product = product


class CatalogConfig(msgspec.Struct, frozen=True):
    """database: SQLAlchemy URL."""

    database: str = sqlite("catalog")


def _seed(connection: Connection) -> None:
    rows = [{**good._asdict(), "position": position} for position, good in enumerate(all_goods())]
    connection.execute(insert(_products), rows)


@component
class Catalog:
    """What is for sale, and finding it."""

    def __init__(self, config: CatalogConfig) -> None:
        self._database = Database(config.database, "catalog", [_tables.create_all, _seed])

    async def migrate(self) -> None:
        await self._database.migrate()

    async def start(self) -> None:
        await self._database.start()

    async def stop(self) -> None:
        await self._database.stop()

    @method(timeout=3, idempotent=True, raises=(NoSuchProduct,))
    async def product(self, id: ProductId) -> Product:
        """One product. Raises NoSuchProduct."""
        found = await self.products((id,))
        if not found:
            raise NoSuchProduct(id)
        return found[0]

    @method(timeout=3, idempotent=True)
    async def products(self, ids: tuple[ProductId, ...]) -> tuple[Product, ...]:
        """Those of the products that exist, in the order asked for."""

        def work(connection: Connection) -> dict[str, Product]:
            rows = connection.execute(select(_products).where(_products.c.id.in_(ids))).mappings()
            return {row["id"]: _product(row) for row in rows}

        found = await self._database.read(work)
        return tuple(found[id] for id in ids if id in found)

    @method(timeout=3, idempotent=True)
    async def categories(self) -> tuple[Category, ...]:
        """All categories, in the order of the shop's menu."""
        count = select(_products.c.category, func.count()).group_by(_products.c.category)
        sizes = await self._database.read(lambda connection: dict(connection.execute(count).all()))
        return tuple(Category(name, sizes[name]) for name in CATEGORIES if name in sizes)

    @method(timeout=3, idempotent=True)
    async def search(
        self, query: str = "", category: str = "", sort: Sort = "featured", number: int = 1, size: int = 24
    ) -> Page:
        """The products that contain every word of the query; an empty query or category means all."""
        size = max(1, min(size, PAGE_SIZE_MAX))
        conditions = [_contains(word) for word in query.lower().split()[:WORDS_MAX]]
        if category:
            conditions.append(_products.c.category == category)
        wanted = and_(True, *conditions)

        def work(connection: Connection) -> Page:
            total = connection.scalar(select(func.count()).select_from(_products).where(wanted)) or 0
            pages = max(1, -(-total // size))
            at = max(1, min(number, pages))
            chosen = select(_products).where(wanted).order_by(*_orders[sort]).limit(size).offset((at - 1) * size)
            products = tuple(_product(row) for row in connection.execute(chosen).mappings())
            return Page(products, at, pages, total)

        return await self._database.read(work)


def _contains(word: str) -> object:
    # Somebody who types "mugs" means "mug".
    stem = word[:-1] if word.endswith("s") and len(word) > 3 else word
    columns = (_products.c.name, _products.c.category, _products.c.about)
    return or_(*(func.lower(column).contains(stem, autoescape=True) for column in columns))


def _product(row: RowMapping) -> Product:
    return Product(row["id"], row["name"], row["category"], row["price"], row["about"])

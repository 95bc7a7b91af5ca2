"""Which definitions a service consists of, and which changes therefore alter it."""

import pytest

from fissile.orchestrator.code import Modules, Slice, data_parts

FILES = {
    "shop/__init__.py": b"""
from fissile import Application
from shop.cart import Cart
from shop.catalog import Catalog
app = Application(Cart, Catalog)
""",
    "shop/catalog.py": b'''
"""Goods."""
from shop.database import connect, unused
LIMIT = 10

class NoSuchProduct(Exception):
    limit = LIMIT

class Catalog:
    async def product(self, number):
        return connect("catalog")
''',
    "shop/cart.py": b"""
from shop.catalog import Catalog, NoSuchProduct

class Cart:
    def __init__(self, catalog: Catalog) -> None: ...

    async def add(self, number):
        import shop.late
        raise NoSuchProduct
""",
    "shop/late.py": b"THEN = 1\n",
    "shop/database.py": b"""
import logging
logging.captureWarnings(True)

def connect(name):
    return _path(name)

def _path(name):
    return f"data/{name}.db"

def unused():
    return 1
""",
    "shop/templates/cart.html": b"<p>",
}
COMPONENTS = [("shop.cart", "Cart"), ("shop.catalog", "Catalog")]


def parts(component: str, files: dict[str, bytes] = FILES) -> dict[str, str]:
    found = Slice(Modules(files), COMPONENTS)
    found.add(f"shop.{component.lower()}", component)
    return found.parts


def changed(component: str, path: str, before: bytes, after: bytes) -> set[str]:
    assert before in FILES[path]
    files = {**FILES, path: FILES[path].replace(before, after)}
    old, new = parts(component), parts(component, files)
    return {place for place in old.keys() | new.keys() if old.get(place) != new.get(place)}


def test_a_service_is_what_its_components_reach():
    assert set(parts("Catalog")) == {
        "shop/catalog.py: Catalog",
        "shop/database.py: connect",
        "shop/database.py: _path",
        "shop/database.py",
    }
    assert set(parts("Cart")) == {
        "shop/cart.py: Cart",
        "shop/catalog.py: NoSuchProduct",
        "shop/catalog.py: LIMIT",
        "shop/late.py: THEN",
    }


@pytest.mark.parametrize(
    ("path", "before", "after", "cart", "catalog"),
    [
        ("shop/catalog.py", b'connect("catalog")', b'connect("goods")', set[str](), {"shop/catalog.py: Catalog"}),
        ("shop/catalog.py", b"LIMIT = 10", b"LIMIT = 11", {"shop/catalog.py: LIMIT"}, set[str]()),
        ("shop/database.py", b"data/", b"elsewhere/", set[str](), {"shop/database.py: _path"}),
        ("shop/database.py", b"True", b"False", set[str](), {"shop/database.py"}),
        ("shop/database.py", b"return 1", b"return 2", set[str](), set[str]()),
        ("shop/catalog.py", b"Goods.", b"Wares.", set[str](), set[str]()),
        ("shop/catalog.py", b"LIMIT = 10", b"LIMIT  =  10  # ten", set[str](), set[str]()),
        ("shop/late.py", b"1", b"2", {"shop/late.py: THEN"}, set[str]()),
        ("shop/__init__.py", b"Application(Cart, Catalog)", b"Application(Catalog, Cart)", set[str](), set[str]()),
    ],
)
def test_what_a_change_alters(path: str, before: bytes, after: bytes, cart: set[str], catalog: set[str]):
    assert changed("Cart", path, before, after) == cart
    assert changed("Catalog", path, before, after) == catalog


@pytest.mark.parametrize(
    "use",
    [
        b"class Cart(Catalog): ...",
        b"class Cart:\n    kind = Catalog",
        b"import shop.catalog\nclass Cart:\n    x = shop.catalog.LIMIT",
        b"from shop.catalog import *\nclass Cart:\n    x = Catalog.product",
        b"from . import catalog\nclass Cart:\n    x = catalog.LIMIT",
        b"import importlib\nclass Cart:\n    x = importlib.import_module('shop.' + 'catalog')",
        b"class Cart:\n    x: 'object' = eval('1')",
    ],
)
def test_in_doubt_it_counts(use: bytes):
    files = {**FILES, "shop/cart.py": b"from shop.catalog import Catalog\n" + use}
    assert "shop/catalog.py: Catalog" in parts("Cart", files)


def test_what_cannot_be_parsed_is_left_to_its_importer():
    files = {**FILES, "shop/database.py": b"def ("}
    assert set(parts("Catalog", files)) == {"shop/catalog.py: Catalog"}


def test_files_count_where_they_are_named_or_nobody_names_them():
    files = {"shop/templates/cart.html": b"<p>", "shop/notes.txt": b"x", "shop/web.py": b""}
    found = data_parts(files, {"templates"}, {"templates", "static"})
    assert set(found) == {"shop/templates/cart.html", "shop/notes.txt"}
    assert set(data_parts(files, {"static"}, {"templates", "static"})) == {"shop/notes.txt"}


def test_components_of_one_module_count_for_each_other_by_contract():
    code = b"""
class Pictures:
    async def thumb(self):
        return 1

class Pages:
    def __init__(self, pictures: Pictures) -> None: ...

class Album(Pictures):
    pass
"""
    names = [("gallery", "Pictures"), ("gallery", "Pages"), ("gallery", "Album")]

    def reached(component: str) -> set[str]:
        found = Slice(Modules({"gallery.py": code}), names)
        found.add("gallery", component)
        return set(found.parts)

    assert reached("Pages") == {"gallery.py: Pages"}
    assert reached("Album") == {"gallery.py: Album", "gallery.py: Pictures"}

"""Which definitions a service consists of, and which changes therefore alter it."""

import pytest

from fissile.releases.slicing.effects import Effects
from fissile.releases.slicing.reachability import Slice, data_parts
from fissile.releases.slicing.syntax import Modules

FILES = {
    "shop/__init__.py": b"""
from fissile import Application
from shop.cart import Cart
from shop.catalog import Catalog
app = Application(Cart, Catalog)
""",
    "shop/catalog.py": b'''
"""Goods."""
from fissile import component, method
from shop.database import connect, unused
LIMIT = 10

class NoSuchProduct(Exception):
    limit = LIMIT

class Product:
    def shown(self):
        return "shown"

@component
class Catalog:
    @method(timeout=2.0)
    async def product(self, number: int, most: int = 7) -> Product:
        return connect("catalog")

    async def _own(self):
        return 1
''',
    "shop/cart.py": b"""
from shop.catalog import Catalog, NoSuchProduct

class Cart:
    def __init__(self, catalog: Catalog) -> None: ...

    async def add(self, number):
        import shop.late
        raise NoSuchProduct(shop.late.THEN)
""",
    "shop/late.py": b"THEN = 1\nNEVER = 2\n",
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


def sliced(component: str, files: dict[str, bytes]) -> Slice:
    modules = Modules(files)
    found = Slice(modules, Effects(modules), COMPONENTS)
    found.run("shop")
    found.add(f"shop.{component.lower()}", component)
    return found


def parts(component: str, files: dict[str, bytes] = FILES) -> dict[str, str]:
    return sliced(component, files).parts


def differing(component: str, before: dict[str, bytes], after: dict[str, bytes]) -> set[str]:
    old, new = parts(component, before), parts(component, after)
    return {place for place in old.keys() | new.keys() if old.get(place) != new.get(place)}


def changed(component: str, path: str, before: bytes, after: bytes) -> set[str]:
    assert before in FILES[path]
    return differing(component, FILES, {**FILES, path: FILES[path].replace(before, after)})


def test_a_service_is_what_its_components_reach():
    assert set(parts("Catalog")) == {
        "shop/catalog.py (imports)",
        "shop/catalog.py: Catalog",
        "shop/catalog.py: Product",
        "shop/database.py: connect",
        "shop/database.py: _path",
        "shop/database.py",
        "shop/database.py (imports)",
    }
    assert set(parts("Cart")) == {
        "shop/cart.py (imports)",
        "shop/cart.py: Cart",
        "shop/catalog.py (imports)",
        "shop/catalog.py: Catalog (contract)",
        "shop/catalog.py: NoSuchProduct",
        "shop/catalog.py: Product",
        "shop/catalog.py: LIMIT",
        "shop/late.py: THEN",
        # It is run wherever the application is imported.
        "shop/database.py",
        "shop/database.py (imports)",
    }


CONTRACT, NOTHING = {"shop/catalog.py: Catalog (contract)"}, set[str]()


@pytest.mark.parametrize(
    ("path", "before", "after", "cart", "catalog"),
    [
        ("shop/catalog.py", b'connect("catalog")', b'connect("goods")', NOTHING, {"shop/catalog.py: Catalog"}),
        ("shop/catalog.py", b"return 1", b"return 2", NOTHING, {"shop/catalog.py: Catalog"}),
        ("shop/catalog.py", b"LIMIT = 10", b"LIMIT = 11", {"shop/catalog.py: LIMIT"}, NOTHING),
        # What callers count on beside the types: limits, defaults, and what their results do.
        ("shop/catalog.py", b"timeout=2.0", b"timeout=3.0", CONTRACT, {"shop/catalog.py: Catalog"}),
        ("shop/catalog.py", b"most: int = 7", b"most: int = 8", CONTRACT, {"shop/catalog.py: Catalog"}),
        ("shop/catalog.py", b'"shown"', b'"told"', {"shop/catalog.py: Product"}, {"shop/catalog.py: Product"}),
        ("shop/database.py", b"data/", b"elsewhere/", NOTHING, {"shop/database.py: _path"}),
        ("shop/database.py", b"True", b"False", {"shop/database.py"}, {"shop/database.py"}),
        ("shop/database.py", b"return 1", b"return 2", NOTHING, NOTHING),
        ("shop/catalog.py", b"Goods.", b"Wares.", NOTHING, NOTHING),
        ("shop/catalog.py", b"LIMIT = 10", b"LIMIT  =  10  # ten", NOTHING, NOTHING),
        ("shop/late.py", b"1", b"2", {"shop/late.py: THEN"}, NOTHING),
        ("shop/late.py", b"NEVER = 2", b"NEVER = 3", NOTHING, NOTHING),
        ("shop/__init__.py", b"Application(Cart, Catalog)", b"Application(Catalog, Cart)", NOTHING, NOTHING),
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
        b"import shop.catalog\nclass Cart:\n    x = shop.catalog",
        b"import shop.catalog\nclass Cart:\n    x = shop.catalog.Catalog",
        b"import shop\nclass Cart:\n    x = shop.Catalog.product",
        b"from shop.catalog import *\nclass Cart:\n    x = Catalog.product",
        b"from . import catalog\nclass Cart:\n    x = catalog.Catalog",
        b"import importlib\nclass Cart:\n    x = importlib.import_module('shop.' + 'catalog')",
        b"from importlib import import_module as load\nclass Cart:\n    x = load('shop.' + 'catalog')",
        b"class Cart:\n    x: 'object' = eval('1')",
        b"class Cart:\n    x = 'shop.catalog:Catalog'",
        b"import sys\nclass Cart:\n    x = sys.modules['shop' '.catalog']",
        b"class Cart(object):\n    def x(self):\n        return object.__subclasses__()",
    ],
)
def test_in_doubt_it_counts(use: bytes):
    files = {**FILES, "shop/cart.py": b"from shop.catalog import Catalog\n" + use}
    assert "shop/catalog.py: Catalog" in parts("Cart", files)


CART = "class Cart:\n    async def run(self):\n        return {}\n"


def using(name: str, text: str, module: str = "m") -> dict[str, str]:
    """Cart uses a name of a module that says this."""
    return {"shop/cart.py": f"from shop.{module} import {name}\n{CART.format(f'{name}()')}", "shop/m.py": text}


ROUTES = """
from starlette import Router
router = Router()
@router.get('/')
async def page():
    return 'one'
class Web:
    routes = router
"""
DISPATCH = """
from functools import singledispatch
@singledispatch
def f(x): ...
@f.register
def _(x):
    return 'one'
"""
KEPT_SUBCLASSES = """
class B:
    def __init_subclass__(cls): ...
class A(B):
    def go(self):
        return 'one'
"""
TABLES = """
from orm import Model
class Base(Model): ...
class User(Base):
    x = 'one'
"""
SHARED_TYPE = """
class P:
    def __init__(self, x):
        self.x = x
ALL = [P('one')]
"""
SHARED_BASE = """
from msgspec import Struct
class P(Struct, frozen=True): ...
class Q(P):
    x = 'one'
"""
QUOTED = """
from shop.m import Item
class Cart:
    async def run(self, x: 'Item | None') -> None: ...
"""

# Each with "one" in it; what Cart does is another thing when that is "two".
DIFFERENCES = {
    "a value": using("F", "F = 'one'\n"),
    "a base": using("F", "class B:\n    x = 'one'\nclass F(B): ...\n"),
    "a decorator": using("F", "def d(f):\n    return 'one'\n@d\ndef F(): ...\n"),
    "an import": {"shop/cart.py": "from random import one as f\n" + CART.format("f()")},
    "an imported module": {"shop/cart.py": "import one as codec\n" + CART.format("codec.f()")},
    "of two imports, the first": {
        "shop/cart.py": "try:\n    from shop.m import f\nexcept ImportError:\n    from shop.n import f\n"
        + CART.format("f()"),
        "shop/m.py": "def f():\n    return 'one'\n",
        "shop/n.py": "def f(): ...\n",
    },
    "imported, then wrapped": {
        "shop/cart.py": "from shop.m import f\nf = list(f)\n" + CART.format("f"),
        "shop/m.py": "f = 'one'\n",
    },
    "a later value": using("F", "F = []\nF += ['one']\n"),
    "an attribute set afterwards": using("F", "class F: ...\nF.x = 'one'\n"),
    "a registry, by a loose statement": using("R", "R = {}\nR['x'] = 'one'\n"),
    "a registry, by a method": using("R", "R = []\nR.append('one')\n"),
    "a registry, by a decorator": using(
        "R", "R = []\ndef keep(f):\n    R.append(f)\n    return f\n@keep\ndef first():\n    return 'one'\n"
    ),
    "a registry, by a value": using("R", "R = []\ndef keep(f):\n    R.append(f)\n_done = keep(lambda: 'one')\n"),
    "a registry, from another module": {
        **using("R", "R = []\ndef keep(f):\n    R.append(f)\n    return f\n"),
        "shop/__init__.py": "import shop.cart\nfrom . import plugins\n",
        "shop/plugins.py": "from shop.m import keep\n@keep\ndef first():\n    return 'one'\n",
    },
    "routes of an application": using("router", ROUTES),
    "single dispatch": using("f", DISPATCH),
    "subclasses that are kept": using("B", KEPT_SUBCLASSES),
    "tables of a base": using("Base", TABLES),
    "a whole module": {"shop/cart.py": "from shop import m\n" + CART.format("dir(m)"), "shop/m.py": "x = 'one'\n"},
    "a module of a module": {"shop/cart.py": "import shop.m as n\n" + CART.format("n.x"), "shop/m.py": "x = 'one'\n"},
    "an import for its effects": {
        "shop/cart.py": "import shop.m\n" + CART.format("1"),
        "shop/m.py": "def f():\n    return 'one'\n",
    },
    "effects of a module that gives a name away": using(
        "x", "import decimal\nx = 1\ndecimal.getcontext().prec = 'one'\n"
    ),
    "effects of the application's own module": {
        "shop/cart.py": CART.format("1"),
        "shop/__init__.py": "import shop.cart\nimport locale\nlocale.setlocale('one')\n",
    },
    "set up by a call": {
        **using("V", "V = {}\ndef setup(x):\n    V.update(x)\n"),
        "shop/__init__.py": "import shop.cart\nfrom shop.m import setup\nsetup('one')\n",
    },
    "a quoted annotation": {"shop/cart.py": QUOTED, "shop/m.py": "class Item:\n    x = 'one'\n"},
    "by way of a package": {
        **using("F", "F = 'one'\n", "p"),
        "shop/p/__init__.py": "from shop.m import F\n",
    },
    "a lazy attribute of a package": {
        "shop/cart.py": "from shop.p import later\n" + CART.format("later"),
        "shop/p.py": "def __getattr__(name):\n    from shop import m\n    return m\n",
        "shop/m.py": "x = 'one'\n",
    },
    "defined on a condition": using("F", "import sys\nif sys.platform == 'x':\n    F = 'one'\nelse:\n    F = 2\n"),
    "the order of statements": using("F", "x = 'one'\nF = x\nx = 'three'\n"),
    "a future": {"shop/cart.py": "from __future__ import one\n" + CART.format("1")},
}  # fmt: skip


@pytest.mark.parametrize("files", DIFFERENCES.values(), ids=DIFFERENCES)
def test_what_makes_a_difference_counts(files: dict[str, str]):
    texts = {"shop/__init__.py": "from shop.cart import Cart\napp = 1\n", **files}
    before = {path: text.encode() for path, text in texts.items()}
    after = {path: text.replace("one", "two").encode() for path, text in texts.items()}
    assert before != after
    assert differing("Cart", before, after)


def test_the_order_of_statements_counts():
    before = using("F", "x = 'one'\nF = x\nx = 'two'\n")
    after = using("F", "x = 'two'\nF = x\nx = 'one'\n")
    encoded = [{path: text.encode() for path, text in files.items()} for files in (before, after)]
    assert differing("Cart", *encoded) == {"shop/m.py: x"}
    before = using("F", "from os import environ\nenviron['x'] = 'y'\nF = environ['x']\n")
    after = using("F", "from os import environ\nF = environ['x']\nenviron['x'] = 'y'\n")
    encoded = [{path: text.encode() for path, text in files.items()} for files in (before, after)]
    assert differing("Cart", *encoded) == {"shop/m.py (order)"}


# What Cart does is the same thing when "one" is "two": another service's affair.
INDIFFERENT = {
    "another definition": using("F", "F = 1\nG = 'one'\ndef h():\n    return 'one'\n"),
    "a logger": using("F", "import logging\n_log = logging.getLogger('one')\nF = 1\n"),
    "routes of another": {
        "shop/cart.py": CART.format("1"),
        "shop/__init__.py": "from shop.cart import Cart\nfrom shop.web import Web\n",
        "shop/web.py": ROUTES,
    },
    "data of a type that is shared": using("P", SHARED_TYPE),
    "types of one base": using("P", SHARED_BASE),
    "a main program": using("F", "F = 1\nif __name__ == '__main__':\n    print('one')\n"),
}  # fmt: skip


@pytest.mark.parametrize("files", INDIFFERENT.values(), ids=INDIFFERENT)
def test_what_makes_no_difference_does_not_count(files: dict[str, str]):
    texts = {"shop/__init__.py": "from shop.cart import Cart\napp = 1\n", **files}
    before = {path: text.encode() for path, text in texts.items()}
    after = {path: text.replace("one", "two").encode() for path, text in texts.items()}
    assert differing("Cart", before, after) == set()


def test_a_component_that_cannot_be_found_counts_as_everything():
    files = {f"src/{path}": content for path, content in FILES.items()}
    assert "src/shop/catalog.py: Catalog" in parts("Cart", files)
    assert "src/shop/database.py: unused" in parts("Cart", files)
    modules = Modules(files, ["src"])
    found = Slice(modules, Effects(modules), COMPONENTS)
    found.add("shop.cart", "Cart")
    assert "src/shop/cart.py: Cart" in found.parts
    assert "src/shop/database.py: unused" not in found.parts


def test_what_cannot_be_parsed_is_left_to_its_importer():
    files = {**FILES, "shop/database.py": b"def ("}
    assert set(parts("Catalog", files)) == {
        "shop/catalog.py: Catalog",
        "shop/catalog.py: Product",
        "shop/catalog.py (imports)",
    }


def reading(text: str) -> Slice:
    files = {**FILES, "shop/cart.py": f"class Cart:\n    x = {text}\n".encode()}
    return sliced("Cart", files)


def test_files_count_where_they_are_named_or_for_all_who_may_read_any():
    files = {"shop/templates/cart.html": b"<p>", "shop/notes.txt": b"x", "shop/web.py": b""}
    pages, names, blind = reading("open('templates/' + y)"), reading("open(f'{y}.txt')"), reading("1")
    both = {"shop/templates/cart.html", "shop/notes.txt"}
    assert set(data_parts(files, pages, [pages, names, blind])) == {"shop/templates/cart.html"}
    # The templates are somebody else's; what nobody names may be anybody's who reads.
    assert set(data_parts(files, names, [pages, names, blind])) == {"shop/notes.txt"}
    assert set(data_parts(files, blind, [pages, names, blind])) == set()
    # Where nobody reads by a path that is not known, something else does.
    assert set(data_parts(files, pages, [pages, blind])) == both
    assert set(data_parts(files, blind, [blind])) == both
    # The folder at the top is in every path: its name says nothing.
    shop = reading("'shop'")
    assert set(data_parts(files, names, [names, shop])) == both


def test_files_count_where_settings_name_them():
    files = {"shop/prices.json": b"{}", "shop/rates/de.json": b"{}", "shop/web.py": b""}
    told, other = reading("open(config.path)"), reading("open(config.path)")
    told.add_settings({"path": "shop/prices.json", "more": [{"folder": "shop/rates"}], "size": 3})
    assert set(data_parts(files, told, [told, other])) == set(files) - {"shop/web.py"}
    assert set(data_parts(files, other, [told, other])) == set()


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
        modules = Modules({"gallery.py": code})
        found = Slice(modules, Effects(modules), names)
        found.add("gallery", component)
        return set(found.parts)

    assert reached("Pages") == {"gallery.py: Pages", "gallery.py: Pictures (contract)"}
    assert reached("Album") == {"gallery.py: Album", "gallery.py: Pictures"}

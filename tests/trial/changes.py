"""Small changes to small applications, and whose behaviour each alters.

A text has `<<before|after>>` where it changes. Two services, Cart and Catalog, have a module each, `shop/cart.py` and
`shop/catalog.py`, whose classes answer `run()`; the application is `shop/__init__.py`, which imports both.
"""

# ruff: noqa: E501 -- a table

from typing import NamedTuple

ABSENT = "(no file)"
CART, CATALOG = "Cart", "Catalog"
BOTH, NOBODY = {CART, CATALOG}, set[str]()

APP = "from shop.cart import Cart\nfrom shop.catalog import Catalog\n"
READ = "import os\nfrom pathlib import Path\nHERE = Path(__file__).parent\n"


class Change(NamedTuple):
    """files: beside the plain ones. altered: whose behaviour changes. measured: whether that can be seen by running."""

    files: dict[str, str]
    altered: set[str]
    measured: bool = True


def runs(name: str, body: str, head: str = "") -> str:
    """A component's module. body: an expression, or lines that return one."""
    lines = body if "return" in body else f"return {body}"
    indented = "\n".join(f"        {line}" for line in lines.split("\n"))
    return f"{head}\nclass {name}:\n    def run(self):\n{indented}\n"


def cart(body: str, head: str = "", **files: str) -> dict[str, str]:
    """Cart's module; others by name, as `m` for shop/m.py."""
    return {"shop/cart.py": runs(CART, body, head), **modules(files)}


def both(cart: str, catalog: str, head: str = "", **files: str) -> dict[str, str]:
    """Both modules, with the same beginning."""
    return {
        "shop/cart.py": runs(CART, cart, head),
        "shop/catalog.py": runs(CATALOG, catalog, head),
        **modules(files),
    }


def modules(files: dict[str, str]) -> dict[str, str]:
    """`m` for shop/m.py, `p__init` for shop/p/__init__.py, `app` for shop/__init__.py."""
    found: dict[str, str] = {}
    for name, text in files.items():
        path = name.replace("__init", "/__init__")
        found["shop/__init__.py" if name == "app" else f"shop/{path}.py"] = text
    return found


def uses(name: str, text: str) -> dict[str, str]:
    """Cart answers a name of shop/m.py."""
    return cart(name, f"from shop.m import {name}\n", m=text)


ROUTES = "class Router:\n    def __init__(self):\n        self.all = []\n    def get(self, path):\n        def keep(f):\n            self.all.append((path, f.__name__, f()))\n            return f\n        return keep\nrouter = Router()\n"
TABLES = "class Meta(type):\n    tables = []\n    def __init__(cls, name, bases, body):\n        Meta.tables.append((name, sorted(k for k in body if k[0] != '_')))\nclass Base(metaclass=Meta): ...\n"
REGISTRY = "R = []\ndef keep(x):\n    R.append(x())\n    return x\n"

CODE: dict[str, Change] = {
    # -- what a definition says
    "a body": Change(cart("'<<a|b>>'"), {CART}),
    "the other's body": Change({"shop/catalog.py": runs(CATALOG, "'<<a|b>>'")}, {CATALOG}),
    "a comment": Change(cart("1  # <<a|b>>"), NOBODY),
    "a blank line": Change(cart("1", "x = 1\n<<|\n>>"), NOBODY),
    "a docstring of the module": Change(cart("1", '"""<<a|b>>"""\n'), NOBODY),
    "quotes": Change(cart("""<<'a'|"a">>"""), NOBODY),
    "brackets": Change(cart("<<1 + 2|(1 + 2)>>"), NOBODY),
    "an unused function of its module": Change(cart("1", "def f():\n    return '<<a|b>>'\n"), NOBODY),
    "an unused function of another": Change(uses("F", "F = 1\ndef g():\n    return '<<a|b>>'\n"), NOBODY),
    "a constant": Change(uses("F", "F = '<<a|b>>'\n"), {CART}),
    "a constant of a constant": Change(uses("F", "G = '<<a|b>>'\nF = [G]\n"), {CART}),
    "a default": Change(cart("f()", "def f(x='<<a|b>>'):\n    return x\n"), {CART}),
    "a keyword default": Change(cart("f()", "def f(*, x='<<a|b>>'):\n    return x\n"), {CART}),
    "a decorator": Change(cart("f()", "def d(f):\n    return lambda: '<<a|b>>'\n@d\ndef f(): ...\n"), {CART}),
    "a base class": Change(cart("B().x", "class A:\n    x = '<<a|b>>'\nclass B(A): ...\n"), {CART}),
    "a metaclass": Change(cart("A.x", "class M(type):\n    x = '<<a|b>>'\nclass A(metaclass=M): ...\n"), {CART}),
    "a class keyword": Change(
        cart("A.x", "class B:\n    def __init_subclass__(cls, x=1):\n        cls.x = x\nclass A(B, x='<<a|b>>'): ...\n"),
        {CART},
    ),
    "a property": Change(cart("A().x", "class A:\n    @property\n    def x(self):\n        return '<<a|b>>'\n"), {CART}),
    "a lambda": Change(cart("f()", "f = lambda: '<<a|b>>'\n"), {CART}),
    "a comprehension": Change(cart("X", "X = [y for y in ('<<a|b>>',)]\n"), {CART}),
    "a closure": Change(cart("g()", "def f():\n    x = '<<a|b>>'\n    return lambda: x\ng = f()\n"), {CART}),
    "an augmented value": Change(uses("F", "F = []\nF += ['<<a|b>>']\n"), {CART}),
    "the second of two values": Change(uses("F", "F = 1\nF = '<<a|b>>'\n"), {CART}),
    "the first of two values": Change(uses("F", "F = '<<a|b>>'\nG = F\nF = 1\n"), NOBODY),
    "a value by unpacking": Change(uses("F", "F, G = '<<a|b>>', 1\n"), {CART}),
    "a value in a loop": Change(uses("F", "for F in (1, '<<a|b>>'): pass\n"), {CART}),
    "a value in a with": Change(uses("F", "import io\nwith io.StringIO('<<a|b>>') as f:\n    F = f.read()\n"), {CART}),
    "a value in an if": Change(uses("F", "import sys\nif sys.argv:\n    F = '<<a|b>>'\nelse:\n    F = 1\n"), {CART}),
    "a condition": Change(uses("F", "if <<True|False>>:\n    F = 1\nelse:\n    F = 2\n"), {CART}),
    "a value in a try": Change(uses("F", "try:\n    import nowhere\nexcept ImportError:\n    F = '<<a|b>>'\n"), {CART}),
    "a match": Change(uses("F", "match 1:\n    case 1:\n        F = '<<a|b>>'\n"), {CART}),
    "a walrus": Change(uses("F", "(F := '<<a|b>>')\n"), {CART}),
    "a deleted name": Change(cart("'F' in vars(m)", "from shop import m\n", m="F = 1\n<<|del F\n>>"), {CART}),
    "a dunder all": Change(cart("f()", "from shop.m import *\n", m="__all__ = [<<'f'|>>]\ndef f():\n    return 1\n"), {CART}),
    "the order of values": Change(uses("F", "<<x = 1\nF = [x]\nx = 2|x = 2\nF = [x]\nx = 1>>\n"), {CART}),
    "a future": Change(cart("f.__annotations__", "<<|from __future__ import annotations>>\ndef f(x: int): ...\n"), {CART}),
    "an annotation that is read": Change(cart("f.__annotations__", "def f(x: <<int|str>>): ...\n"), {CART}),
    "a name's annotation at the top": Change(cart("__annotations__", "X: <<int|str>> = 1\n"), {CART}),
    "a function's docstring that is read": Change(cart("f.__doc__", 'def f():\n    """<<a|b>>"""\n'), {CART}),
    "the module's docstring that is read": Change(cart("__doc__", '"""<<a|b>>"""\n'), {CART}),
    "another module's docstring that is read": Change(
        cart("m.__doc__", "from shop import m\n", m='"""<<a|b>>"""\nx = 1\n'), {CART}
    ),
    "a docstring by way of sys.modules": Change(
        cart("sys.modules[__name__].__doc__", '"""<<a|b>>"""\nimport sys\n'), {CART}
    ),
    "a docstring for a parser": Change(
        cart("p.description", '"""<<a|b>>"""\nimport argparse\np = argparse.ArgumentParser(description=__doc__)\n'), {CART}
    ),
    # -- how it is found
    "an import exchanged": Change(cart("f(2)", "from math import <<sqrt|exp>> as f\n"), {CART}),
    "a module exchanged": Change(cart("j.dumps(1.0)", "import <<json|shop.j>> as j\n", j="def dumps(x):\n    return 'x'\n"), {CART}),
    "a name of another module": Change(
        cart("f()", "from shop.<<m|n>> import f\n", m="def f():\n    return 1\n", n="def f():\n    return 2\n"), {CART}
    ),
    "a name imported twice, the last": Change(
        cart("f()", "from shop.m import f\nfrom shop.n import f\n", m="def f():\n    return 1\n", n="def f():\n    return '<<a|b>>'\n"),
        {CART},
    ),
    "a name imported twice, the first": Change(
        cart("f()", "from shop.m import f\nfrom shop.n import f\n", m="def f():\n    return '<<a|b>>'\n", n="def f():\n    return 1\n"),
        NOBODY,
    ),
    "an import or another": Change(
        cart("f()", "try:\n    from shop.m import f\nexcept ImportError:\n    from shop.n import f\n", m="def f():\n    return '<<a|b>>'\n", n="def f(): ...\n"),
        {CART},
    ),
    "an import by way of a package": Change(
        cart("f", "from shop.p import f\n", p__init="from shop.m import f\n", m="f = '<<a|b>>'\n"), {CART}
    ),
    "what a package passes on": Change(
        cart("f", "from shop.p import f\n", p__init="from shop.<<m|n>> import f\n", m="f = 1\n", n="f = 2\n"), {CART}
    ),
    "an import of a star": Change(cart("f", "from shop.m import *\n", m="f = '<<a|b>>'\n"), {CART}),
    "a star of a star": Change(cart("f", "from shop.m import *\n", m="from shop.n import *\n", n="f = '<<a|b>>'\n"), {CART}),
    "an import in a function": Change(cart("import shop.m\nreturn shop.m.f", m="f = '<<a|b>>'\n"), {CART}),
    "an import by name": Change(
        cart("importlib.import_module('shop.' + 'm').f", "import importlib\n", m="f = '<<a|b>>'\n"), {CART}
    ),
    "a module by its text": Change(
        cart("load('shop.m:f')", "from pkgutil import resolve_name as load\n", m="f = '<<a|b>>'\n"), {CART}
    ),
    "a framework that is told modules as texts": Change(
        cart(
            "[__import__(n, fromlist=['x']).x for n in SETTINGS['apps']]",
            "SETTINGS = {'apps': ['shop.m', 'shop.n']}\n",
            m="x = 1\n",
            n="x = '<<a|b>>'\n",
        ),
        {CART},
    ),
    "an attribute by its name": Change(cart("getattr(m, 'f')", "from shop import m\n", m="f = '<<a|b>>'\n"), {CART}),
    "an attribute by a computed name": Change(cart("getattr(m, 'f' + 'g')", "from shop import m\n", m="fg = '<<a|b>>'\n"), {CART}),
    "a name of its own by globals": Change(cart("globals()['f' + 'g']", "fg = '<<a|b>>'\n"), {CART}),
    "by eval": Change(cart("eval('f' + 'g')", "fg = '<<a|b>>'\n"), {CART}),
    "all names of a module": Change(
        cart("{n: v for n, v in vars(m).items() if n[0] != '_'}", "from shop import m\n", m="f = '<<a|b>>'\n"), {CART}
    ),
    "a lazy attribute of a package": Change(
        cart("late", "from shop.p import late\n", p="def __getattr__(name):\n    from shop import m\n    return m.x\n", m="x = '<<a|b>>'\n"),
        {CART},
    ),
    "a subclass that is looked for": Change(
        cart("[c.x for c in B.__subclasses__()]", "from shop.m import B\n", m="class B: ...\n", n="from shop.m import B\nclass C(B):\n    x = '<<a|b>>'\n", app=APP + "import shop.n\n"),
        {CART},
    ),
    "a namespace package, deep": Change(
        {"shop/cart.py": runs(CART, "x", "from shop.a.b.c.d.e import x\n"), "shop/a/b/c/d/e.py": "x = '<<a|b>>'\n"}, {CART}
    ),
    "a namespace package at the top, deep": Change(
        {"shop/cart.py": runs(CART, "x", "from plus.a.b.c.d.e import x\n"), "plus/a/b/c/d/e.py": "x = '<<a|b>>'\n"}, {CART}
    ),
    "a module instead of a package": Change(
        cart("x", "from shop.p import x\n") | {"shop/p.py": "<<x = 1|>>\n", "shop/p/__init__.py": f"<<{ABSENT}|x = 2>>"}, {CART}
    ),
    "a submodule's name in its package": Change(
        cart("p.q", "from shop import p\n", p__init="from shop.m import q\n", m="q = '<<a|b>>'\n"), {CART}
    ),
    # -- what running it does
    "a registry, by decorator": Change(uses("R", REGISTRY + "@keep\ndef f():\n    return '<<a|b>>'\n"), {CART}),
    "a registry, by call": Change(uses("R", REGISTRY + "keep(lambda: '<<a|b>>')\n"), {CART}),
    "a registry, from elsewhere": Change(
        {**uses("R", REGISTRY), **modules({"n": "from shop.m import keep\n@keep\ndef f():\n    return '<<a|b>>'\n", "app": APP + "import shop.n\n"})},
        {CART},
    ),
    "a registry, by an item": Change(uses("R", "R = {}\nR['x'] = '<<a|b>>'\n"), {CART}),
    "routes by decorator": Change(cart("router.all", "from shop.m import router\n", m=ROUTES + "@router.get('/<<a|b>>')\ndef page():\n    return 1\n"), {CART}),
    "routes' bodies": Change(cart("router.all", "from shop.m import router\n", m=ROUTES + "@router.get('/')\ndef page():\n    return '<<a|b>>'\n"), {CART}),
    "the order of routes": Change(
        cart("router.all", "from shop.m import router\n", m=ROUTES, n="from shop.m import router\n@router.get('/n')\ndef n():\n    return 1\n", o="from shop.m import router\n@router.get('/o')\ndef o():\n    return 1\n", app=APP + "<<import shop.n\nimport shop.o|import shop.o\nimport shop.n>>\n"),
        {CART},
    ),
    "routes of the other": Change({"shop/catalog.py": runs(CATALOG, "router.all", ROUTES + "@router.get('/<<a|b>>')\ndef page(): ...\n")}, {CATALOG}),
    "tables by inheritance": Change(cart("Meta.tables", "from shop.m import Meta\n", m=TABLES + "class User(Base):\n    <<a|b>> = 1\n"), {CART}),
    "tables by inheritance, from elsewhere": Change(
        cart("Meta.tables", "from shop.m import Meta\n", m=TABLES, n="from shop.m import Base\nclass User(Base):\n    <<a|b>> = 1\n", app=APP + "import shop.n\n"),
        {CART},
    ),
    "single dispatch": Change(
        cart("f(1)", "from shop.m import f\n", m="from functools import singledispatch\n@singledispatch\ndef f(x): ...\n@f.register\ndef _(x: int):\n    return '<<a|b>>'\n"),
        {CART},
    ),
    "an attribute of a class, set afterwards": Change(cart("F.x", "from shop.m import F\n", m="class F: ...\nF.x = '<<a|b>>'\n"), {CART}),
    "a patch from elsewhere": Change(
        cart("F.x", "from shop.m import F\n", m="class F:\n    x = 1\n", n="import shop.m\nshop.m.F.x = '<<a|b>>'\n", app=APP + "import shop.n\n"), {CART}
    ),
    "a patch by setattr": Change(
        cart("F.x", "from shop.m import F\n", m="class F:\n    x = 1\n", n="import shop.m\nsetattr(shop.m.F, 'x', '<<a|b>>')\n", app=APP + "import shop.n\n"), {CART}
    ),
    "an environment variable": Change(both("os.environ['TRIAL']", "os.environ['TRIAL']", "import os\n", app="import os\nos.environ['TRIAL'] = '<<a|b>>'\n" + APP), BOTH),
    "a setting of a library": Change(
        both("str(decimal.Decimal(1) / 3)", "1", "import decimal\n", m="import decimal\ndecimal.getcontext().prec = <<3|4>>\n", app=APP + "import shop.m\n"), {CART}
    ),
    "an import for its effects": Change(cart("os.environ['TRIAL']", "import os\nimport shop.m\n", m="import os\nos.environ['TRIAL'] = '<<a|b>>'\n"), BOTH, measured=False),
    "an effect that is new": Change(cart("os.environ.get('TRIAL')", "import os\nimport shop.m\n", m="import os\n<<|os.environ['TRIAL'] = 'b'>>\n"), BOTH, measured=False),
    "the order of imports with effects": Change(
        both("os.environ['TRIAL']", "1", "import os\n", m="import os\nos.environ['TRIAL'] = 'm'\n", n="import os\nos.environ['TRIAL'] = 'n'\n", app="<<import shop.m\nimport shop.n|import shop.n\nimport shop.m>>\n" + APP),
        {CART},
    ),
    "the order of an import and an effect": Change(
        both("os.environ['TRIAL']", "1", "import os\n", m="import os\nos.environ['TRIAL'] = 'm'\n", app="import os\n<<import shop.m\nos.environ['TRIAL'] = 'n'|os.environ['TRIAL'] = 'n'\nimport shop.m>>\n" + APP),
        {CART},
    ),
    "the order of imports without effects": Change({**modules({"m": "x = 1\n", "n": "y = 1\n", "app": "<<import shop.m\nimport shop.n|import shop.n\nimport shop.m>>\n" + APP})}, NOBODY),
    "the order of imports, of which one has effects": Change({**modules({"m": "import os\nos.environ['TRIAL'] = 'm'\n", "n": "y = 1\n", "app": "<<import shop.m\nimport shop.n|import shop.n\nimport shop.m>>\n" + APP})}, NOBODY),
    "an import that is gone": Change(cart("'shop.m' in sys.modules", "import sys\n<<import shop.m|>>\n", m="x = 1\n"), {CART}),
    "a main program": Change(uses("F", "F = 1\nif __name__ == '__main__':\n    print('<<a|b>>')\n"), NOBODY),
    "a logger": Change(uses("F", "import logging\n_log = logging.getLogger('<<a|b>>')\nF = 1\n"), NOBODY),
    "a type variable": Change(uses("F", "from typing import TypeVar\nT = TypeVar('<<T|T>>')\nF = 1\n"), NOBODY),
    "an exception of the other": Change(
        {"shop/catalog.py": runs(CATALOG, "str(E())", "class E(Exception):\n    def __str__(self):\n        return '<<a|b>>'\n"), "shop/cart.py": runs(CART, "1", "from shop.catalog import E\n")},
        {CATALOG},
    ),
    "an exception that is shared": Change(both("str(E())", "str(E())", "from shop.m import E\n", m="class E(Exception):\n    def __str__(self):\n        return '<<a|b>>'\n"), BOTH),
    # -- the other component
    "what the other does, named in an annotation": Change(
        {"shop/catalog.py": runs(CATALOG, "'<<a|b>>'"), "shop/cart.py": "from shop.catalog import Catalog\nclass Cart:\n    def __init__(self, catalog: Catalog = None): ...\n    def run(self):\n        return 1\n"},
        {CATALOG},
    ),
    "what the other does, called as a class": Change(
        {"shop/catalog.py": runs(CATALOG, "'<<a|b>>'"), "shop/cart.py": runs(CART, "Catalog().run()", "from shop.catalog import Catalog\n")}, BOTH
    ),
    "a signature of the other": Change(
        {"shop/catalog.py": "class Catalog:\n    async def find(self, most: int = <<1|2>>): ...\n    def run(self):\n        import inspect\n        return str(inspect.signature(self.find))\n", "shop/cart.py": "from shop.catalog import Catalog\nimport inspect\nclass Cart:\n    def __init__(self, catalog: Catalog = None): ...\n    def run(self):\n        return str(inspect.signature(self.__init__.__annotations__['catalog'].find))\n"},
        BOTH,
    ),
    "annotations of the other's constructor, at run time": Change(
        {"shop/catalog.py": "class Catalog:\n    def __init__(self, most: <<int|str>> = 1): ...\n    def run(self):\n        return str(self.__init__.__annotations__)\n", "shop/cart.py": "from shop.catalog import Catalog\nclass Cart:\n    def __init__(self, catalog: Catalog = None): ...\n    def run(self):\n        other = self.__init__.__annotations__['catalog']\n        return str(other.__init__.__annotations__)\n"},
        BOTH,
    ),
    "the order of components": Change({"shop/__init__.py": "<<from shop.cart import Cart\nfrom shop.catalog import Catalog|from shop.catalog import Catalog\nfrom shop.cart import Cart>>\n"}, NOBODY),
}  # fmt: skip

JSON = '{"a": <<1|2>>}'
LINE = "<<a|b>>"
DATA: dict[str, Change] = {
    "a file by its place": Change({**cart("(HERE / 'prices.json').read_text()", READ), "shop/prices.json": JSON}, {CART}),
    "a file that the other reads as well": Change({**both("(HERE / 'prices.json').read_text()", "open(HERE / 'prices.json').read()", READ), "shop/prices.json": JSON}, BOTH),
    "a file beside one that is read": Change({**cart("(HERE / 'prices.json').read_text()", READ), "shop/prices.json": "{}", "shop/other.json": JSON, "shop/catalog.py": runs(CATALOG, "(HERE / 'other.json').read_text()", READ)}, {CATALOG}),
    "a file in a folder of a common name": Change(
        {"shop/cart.py": runs(CART, "(HERE / 'data' / 'prices.json').read_text()", READ), "shop/catalog.py": runs(CATALOG, "{'data': 1}['data']"), "shop/data/prices.json": JSON}, {CART}
    ),
    "two that read files, each its own": Change(
        {"shop/cart.py": runs(CART, "(HERE / 'a.json').read_text()", READ), "shop/catalog.py": runs(CATALOG, "(HERE / 'b.json').read_text()", READ), "shop/a.json": JSON, "shop/b.json": "{}"}, {CART}
    ),
    "a file by os.path": Change({**cart("open(os.path.join(os.path.dirname(__file__), 'data', 'x.csv')).read()", READ), "shop/data/x.csv": LINE}, {CART}),
    "a file by importlib.resources": Change({**cart("files('shop').joinpath('x.csv').read_text()", "from importlib.resources import files\n"), "shop/x.csv": LINE}, {CART}),
    "a file by pkgutil": Change({**cart("pkgutil.get_data('shop', 'x.csv')", "import pkgutil\n"), "shop/x.csv": LINE}, {CART}),
    "a file by the working folder": Change({**cart("open('shop/x.csv').read()"), "shop/x.csv": LINE}, {CART}),
    "a file by the place of another module": Change({**cart("(HERE / 'x.csv').read_text()", "from shop.m import HERE\n", m=READ), "shop/x.csv": LINE}, {CART}),
    "a file by an attribute of a module": Change({**cart("(m.HERE / 'x.csv').read_text()", "from shop import m\n", m=READ), "shop/x.csv": LINE}, {CART}),
    "a file by a constant of another module": Change({**cart("FILE.read_text()", "from shop.m import FILE\n", m=READ + "FILE = HERE / 'x.csv'\n"), "shop/x.csv": LINE}, {CART}),
    "a file read by another module": Change({**cart("load()", "from shop.m import load\n", m=READ + "def load():\n    return (HERE / 'x.csv').read_text()\n"), "shop/x.csv": LINE}, {CART}),
    "a file read when the module is imported": Change({**cart("X", "from shop.m import X\n", m=READ + "X = (HERE / 'x.csv').read_text()\n"), "shop/x.csv": LINE}, {CART}),
    "a file by a computed name": Change({**cart("(HERE / f'{KIND}.csv').read_text()", READ + "KIND = ''.join(['x'])\n"), "shop/x.csv": LINE}, {CART}),
    "a file by a computed name, in a folder": Change({**cart("open(os.path.join(HERE, 'rates', KIND)).read()", READ + "KIND = ''.join(['x', '.csv'])\n"), "shop/rates/x.csv": LINE, "shop/catalog.py": runs(CATALOG, "(HERE / 'pages' / KIND).read_text()", READ + "KIND = 'x.html'\n"), "shop/pages/x.html": "x"}, {CART}),
    "a file by glob": Change({**cart("[p.read_text() for p in sorted((HERE / 'rates').glob('*.csv'))]", READ), "shop/rates/x.csv": LINE}, {CART}),
    "a file that is new, by glob": Change({**cart("[p.name for p in sorted((HERE / 'rates').glob('*.csv'))]", READ), "shop/rates/x.csv": "x", "shop/rates/y.csv": f"<<{ABSENT}|y>>"}, {CART}),
    "a file by glob.glob": Change({**cart("[open(p).read() for p in glob.glob(os.path.join(HERE, 'rates', '*'))]", READ + "import glob\n"), "shop/rates/x.csv": LINE}, {CART}),
    "a file by walk": Change({**cart("[open(os.path.join(at, n)).read() for at, _, names in os.walk(HERE / 'rates') for n in names]", READ), "shop/rates/deep/x.csv": LINE}, {CART}),
    "a file by listdir": Change({**cart("[(HERE / 'rates' / n).read_text() for n in os.listdir(HERE / 'rates')]", READ), "shop/rates/x.csv": LINE}, {CART}),
    "a file by its suffix": Change({**cart("Path(__file__).with_suffix('.csv').read_text()", READ), "shop/cart.csv": LINE}, {CART}),
    "a file by a suffix elsewhere": Change({**cart("load(HERE / 'x')", READ + "def load(path):\n    return path.with_suffix('.csv').read_text()\n"), "shop/x.csv": LINE}, {CART}),
    "a file by an argument": Change({**cart("load(HERE / 'x.csv')", READ + "def load(path):\n    return path.read_text()\n"), "shop/x.csv": LINE}, {CART}),
    "a file by an attribute": Change({"shop/cart.py": READ + "class Cart:\n    def __init__(self):\n        self._at = HERE / 'rates'\n    def run(self):\n        return (self._at / 'x.csv').read_text()\n", "shop/rates/x.csv": LINE}, {CART}),
    "a file that is not there": Change({**cart("(HERE / 'x.csv').exists()", READ), "shop/x.csv": f"<<{ABSENT}|x>>"}, {CART}),
    "a file that goes": Change({**cart("(HERE / 'x.csv').exists()", READ), "shop/x.csv": f"<<x|{ABSENT}>>"}, {CART}),
    "a file by the environment": Change({**cart("open(os.environ.get('TRIAL') or HERE / 'x.csv').read()", READ), "shop/x.csv": LINE}, {CART}),
    "a file by the environment alone": Change({**cart("open(os.environ.get('TRIAL_' + 'FILE', ''.join(['shop/x.', 'csv']))).read()", READ), "shop/x.csv": LINE}, {CART}),
    "a file that one names and the other finds": Change(
        {"shop/cart.py": runs(CART, "(HERE / 'x.csv').read_text()", READ), "shop/catalog.py": runs(CATALOG, "open(where()).read()", "import os\ndef where():\n    return os.sep.join(['sh' 'op', ''.join(['x', '.csv'])])\n"), "shop/x.csv": LINE},
        BOTH,
    ),
    "a template by its name": Change({**cart("render('cart.html')", READ + "def render(name):\n    return (HERE / 'templates' / name).read_text()\n"), "shop/templates/cart.html": LINE}, {CART}),
    "a template of the other": Change(
        {"shop/catalog.py": runs(CATALOG, "env('x.html')", READ + "def env(name):\n    return (HERE / 'templates' / name).read_text()\n"), "shop/templates/x.html": LINE, "shop/cart.py": runs(CART, "(HERE / 'c.txt').read_text()", READ), "shop/c.txt": "c"}, {CATALOG}
    ),
    "a file that nobody reads": Change({**both("1", "2"), "shop/notes.txt": LINE}, NOBODY),
    "a file at the top that nobody reads": Change({"README.md": LINE}, NOBODY),
    "a text in a docstring that is a file's name": Change({**cart("1", '"""See prices.json."""\n'), "shop/catalog.py": runs(CATALOG, "(HERE / 'prices.json').read_text()", READ), "shop/prices.json": JSON}, {CATALOG}),
    "a program that is named": Change({**cart("subprocess.run(['sh', 'shop/x.sh'], capture_output=True).stdout", "import subprocess\n"), "shop/x.sh": "echo <<a|b>>"}, {CART}),
    "a program in a line of a shell": Change({**cart("subprocess.getoutput('sh shop/x.sh')", "import subprocess\n"), "shop/x.sh": "echo <<a|b>>"}, {CART}),
    "a file that is written": Change({"shop/cart.py": runs(CART, "open('/dev/null', 'w').close()"), "shop/catalog.py": runs(CATALOG, "(HERE / 'x.csv').read_text()", READ), "shop/x.csv": LINE}, {CATALOG}),
}  # fmt: skip

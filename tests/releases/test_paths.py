"""Which files code may read: a constant path is exact, a computed one may be any."""

import pytest

from fissile.releases.slicing.paths import FileClaims, FileReads
from fissile.releases.slicing.read_analysis import ReadAnalysis
from fissile.releases.slicing.syntax import Modules

OTHERS = {
    "shop/__init__.py": "",
    "shop/config.py": """
from pathlib import Path
HERE = Path(__file__).resolve().parent
BASE_DIR = HERE.parent
RATES = "rates"
TWICE = HERE / "a"
TWICE = HERE / "b"
""",
    "shop/deep/__init__.py": "from shop.config import HERE as ROOT\n",
}
HEAD = """
import glob, importlib.resources, inspect, os, pkgutil, sys
import os.path
from importlib import resources
from jinja2 import PackageLoader
from os.path import dirname, join
from pathlib import Path

from shop import config, deep
from shop.config import BASE_DIR, HERE, RATES, TWICE

THIS = Path(__file__)
NAME = "prices"
FILE = f"{NAME}.json"
"""
FILES = [
    "shop/prices.json",
    "shop/prices.csv",
    "shop/rates/de.json",
    "shop/rates/fr.json",
    "shop/rates/old/de.json",
    "shop/pages/cart.html",
    "shop/notes.txt",
    "data/prices.json",
    "pages/index.html",
]
PRICES, RATES = {"shop/prices.json"}, {path for path in FILES if path.startswith("shop/rates/")}
IN_SHOP = {path for path in FILES if path.startswith("shop/")}
PAGES = {"shop/pages/cart.html", "pages/index.html"}


def reads(text: str, head: str = HEAD, others: dict[str, str] = OTHERS) -> tuple[FileReads, set[str]]:
    """Of the last statement of a module, and the files that it means."""
    files = {path: source.encode() for path, source in {**others, "shop/cart.py": head + text}.items()}
    modules = Modules(files)
    paths = ReadAnalysis(modules)
    module = modules.get("shop.cart")
    assert module is not None
    found = FileReads()
    begin = head.count("\n")
    for statement in module.statements:
        if statement.node.lineno > begin:
            found.add(paths.reads(module, statement))
    claims = FileClaims(found, {"", "shop", "shop/deep"})
    return found, {path for path in FILES if claims.may_read(path)}


EXACT = [
    ("(Path(__file__).parent / 'prices.json').read_text()", PRICES),
    ("(THIS.parent / FILE).read_text()", PRICES),
    ("(Path(__file__).resolve().parents[0] / 'prices.json').read_bytes()", PRICES),
    ("THIS.with_name('prices.json').open()", PRICES),
    ("THIS.with_name('prices.csv').with_suffix('.json').open()", PRICES),
    ("(THIS.parent.parent / 'shop' / 'x' / '..' / 'prices.json').read_text()", PRICES),
    ("(HERE / 'prices.json').read_text()", PRICES),
    ("(config.HERE / 'prices.json').read_text()", PRICES),
    ("(deep.ROOT / 'prices.json').read_text()", PRICES),
    ("BASE_DIR.joinpath('shop', FILE).read_text()", PRICES),
    ("open(os.path.join(os.path.dirname(os.path.abspath(__file__)), 'prices.json'))", PRICES),
    ("open(join(dirname(__file__), 'prices.json'))", PRICES),
    ("open(os.path.dirname(__file__) + '/prices.json')", PRICES),
    ("open(f'{HERE}/prices.json')", PRICES),
    ("open(f'{os.path.dirname(__file__)}/{NAME}.json')", PRICES),
    ("importlib.resources.files('shop').joinpath('prices.json').read_text()", PRICES),
    ("(resources.files('shop') / 'prices.json').read_text()", PRICES),
    ("(resources.files(deep) / '..' / 'prices.json').read_text()", PRICES),
    ("(resources.files(__name__) / 'prices.json').read_text()", PRICES),
    ("(resources.files(__package__) / 'prices.json').read_text()", PRICES),
    ("(resources.files('shop.rates') / 'de.json').read_text()", {"shop/rates/de.json"}),
    ("resources.read_text('shop', 'prices.json')", PRICES),
    ("pkgutil.get_data('shop', 'prices.json')", PRICES),
    ("json.load(open(HERE / 'prices.json' if x else THIS.with_name(FILE)))", PRICES),
    ("sum(1 for p in (HERE / RATES).glob('*.json') if p.read_text())", RATES),
    ("[p.read_text() for p in sorted((HERE / RATES).rglob('*'))]", RATES),
    ("[open(HERE / RATES / p) for p in os.listdir(HERE / RATES)]", RATES),
    ("[open(p) for p in glob.glob(os.path.join(HERE, 'rates', '*.json'))]", RATES),
    ("(HERE / RATES / f'{sys.argv[1]}.json').read_text()", RATES),
    ("open(join(HERE, 'rates', sys.argv[1]))", RATES),
    ("StaticFiles(directory=HERE / 'pages')", {"shop/pages/cart.html"}),
    ("FileSystemLoader([HERE / 'pages', HERE / 'rates'])", {"shop/pages/cart.html", *RATES}),
    ("PackageLoader('shop', 'pages')", {"shop/pages/cart.html"}),
    ("Environment(loader=PackageLoader('shop', package_path='pages'))", {"shop/pages/cart.html"}),
    # By the working folder: meant by the end of it.
    ("open('shop/prices.json')", PRICES),
    ("open('data/prices.json')", {"data/prices.json"}),
    ("Path('shop', 'rates').glob('*')", RATES),
    ("Path.cwd().joinpath('shop', 'prices.json').read_text()", PRICES),
    ("open(os.path.join(os.getcwd(), 'shop', 'prices.json'))", PRICES),
    ("open('/srv/app/shop/prices.json')", PRICES),
    ("open('prices.json')", {"shop/prices.json", "data/prices.json"}),
    ("StaticFiles(directory='pages')", PAGES),
    ("FileSystemLoader('pages')", PAGES),
    ("open('rates/d' + sys.argv[1])", {"shop/rates/de.json"}),
    ("open(HERE / 'rates/d' + sys.argv[1])", {"shop/rates/de.json"}),
    # Writing is no reading, but of the same folder.
    ("open(sys.argv[1], 'w')", set[str]()),
    # Names that mean something else.
    ("'all {}'.format(sys.argv[1])", set[str]()),
    ("request.files['picture']", set[str]()),
    ("{'rates': 1}['rates']", set[str]()),
]


@pytest.mark.parametrize(("text", "files"), EXACT, ids=[text for text, _ in EXACT])
def test_a_constant_path_is_exact(text: str, files: set[str]):
    for form in (
        f"X = {text}\n",
        f"def f():\n    return {text}\n",
        f"class A:\n    async def f(self, a=1):\n        {text}\n",
    ):
        found, meant = reads(form)
        assert not found.unknown, form
        assert meant == files, form


OWN = """
class A:
    def __init__(self):
        self._folder = HERE / 'rates'
    def f(self, x):
        return (self._folder / x).read_text()
"""
ANY_OF_TWO = """
def f():
    p = HERE / 'prices.json'
    if x:
        p = HERE / 'notes.txt'
    open(p)
"""
LOCAL = [
    ("def f():\n    base = Path(__file__).parent\n    return (base / 'prices.json').read_text()\n", PRICES),
    ("def f():\n    base = HERE\n    def g():\n        return open(base / 'prices.json')\n", PRICES),
    ("def f():\n    for p in (HERE / 'rates').iterdir():\n        p.read_text()\n", RATES),
    ("for p in (HERE / 'rates').iterdir():\n    p.read_text()\n", RATES),
    (ANY_OF_TWO, PRICES | {"shop/notes.txt"}),
    ("def f():\n    with resources.as_file(HERE / 'prices.json') as p:\n        open(p)\n", PRICES),
    ("def f():\n    p = HERE / 'rates'\n    for _ in x:\n        p = p / 'old'\n    return p.read_text()\n", RATES),
    ("class A:\n    F = HERE / 'rates'\n    def f(self, x):\n        return (self.F / x).read_text()\n", RATES),
    (OWN, RATES),
    ("def f(p: Path) -> Path:\n    return p\n", set[str]()),
    ('def f():\n    """FileReads prices.json, as open() does."""\n', set[str]()),
    # Several values: each of them may be meant.
    ("X = open(TWICE / 'de.json')\n", None),
    ("def f():\n    return load(HERE)\n", IN_SHOP),
]


@pytest.mark.parametrize(("text", "files"), LOCAL)
def test_names_are_followed(text: str, files: set[str] | None):
    found, meant = reads(text)
    assert found.unknown == (files is None)
    if files is not None:
        assert meant == files


@pytest.mark.parametrize(
    "text",
    [
        "open(sys.argv[1])",
        "open(name)",
        "Path(os.environ['X']).read_text()",
        "Path(os.environ.get('X') or HERE / 'prices.json').read_text()",
        "map(open, names)",
        "path.read_text()",
        "self.folder.glob('*.json')",
        "resources.files(sys.argv[1])",
        "pkgutil.get_data(sys.argv[1], 'x')",
        "StaticFiles(packages=['shop'])",
        "FileSystemLoader(folders)",
        "Path.cwd().glob('*')",
        "os.listdir('.')",
        "os.walk(os.getcwd())",
        "(HERE.parent.parent / 'x').read_text()",
        "open(HERE / name, mode)",
        "open(sys.argv[1], 'r+')",
        "inspect.getsource(f)",
        "open('%s/rates/%s.json' % (HERE, sys.argv[1]))",
        "other.__file__",
    ],
)
def test_a_read_by_a_path_that_is_not_known_may_be_of_any_file(text: str):
    expected = "HERE / name, mode" not in text
    for form in (f"X = {text}\n", f"def f():\n    return {text}\n"):
        assert reads(form)[0].unknown == expected, form


@pytest.mark.parametrize(
    "text",
    [
        "def f(HERE):\n    return (HERE / 'prices.json').read_text()\n",
        "def f():\n    HERE = g()\n    return (HERE / 'prices.json').read_text()\n",
        "def f():\n    global HERE\n    HERE = g()\n    return (HERE / 'prices.json').read_text()\n",
        "HERE = g()\ndef f():\n    return (HERE / 'prices.json').read_text()\n",
        "def f():\n    return [(HERE / 'prices.json').read_text() for HERE in g()]\n",
        "def f():\n    p = HERE\n    p /= sys.argv[1]\n    return open(p)\n",
        "def f():\n    p = HERE\n    def g():\n        nonlocal p\n        p = h()\n    return open(p)\n",
    ],
)
def test_a_name_with_another_value_is_not_known(text: str):
    found, meant = reads(text)
    assert found.unknown or meant == set(FILES)


def test_what_a_star_gives_counts():
    star = "from shop.config import *\nfrom pathlib import Path\n"
    found, meant = reads("X = (HERE / 'prices.json').read_text()\n", star)
    assert meant >= IN_SHOP or found.unknown
    assert "shop/prices.json" in meant

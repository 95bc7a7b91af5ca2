"""What the folder of an application is made into: which files are code, and which change alters which service."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from fissile.component.topology import topology_for
from fissile.errors import ConfigError
from fissile.releases import fingerprint as source
from fissile.releases.fingerprint import read_files, release_of
from fissile.releases.release import Release, difference
from fissile.runtime.loading import load_application
from fissile.settings.load import load

SHOP = Path(__file__).parents[2] / "examples" / "shop"


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SHOP, tmp_path / "shop", ignore=shutil.ignore_patterns(".*", "__pycache__", "data")))


@pytest.fixture(scope="module")
def released() -> Callable[..., Release]:
    """The release in a folder. Its classes are those of the example: files alone differ."""
    before = {name for name in sys.modules if name.partition(".")[0] == "shop"}
    graph = load_application("shop:app", SHOP)

    def release(folder: Path, profile: str | None = None) -> Release:
        settings = load(folder, profile)
        topology = topology_for(graph, "microservices", settings.topologies)
        return release_of(settings, graph, "microservices", dict(topology.services))

    yield release
    for name in [name for name in sys.modules if name.partition(".")[0] == "shop" and name not in before]:
        del sys.modules[name]
    if str(SHOP) in sys.path:
        sys.path.remove(str(SHOP))


def edit(file: Path, before: str, after: str) -> None:
    text = file.read_text()
    assert before in text
    file.write_text(text.replace(before, after, 1))


def changed(earlier: Release, later: Release) -> dict[str, tuple[str, ...]]:
    return {one.service: one.reasons for one in difference(earlier, later).changes}


def test_the_same_files_are_the_same_release_wherever_they_lie(shop: Path, released: Callable[..., Release]):
    assert released(shop).name == released(SHOP).name
    assert len(released(shop).builds) == 8


@pytest.mark.parametrize(
    ("file", "before", "after", "services"),
    [
        ("shop/recommendations.py", "size=60", "size=61", {"recommendations"}),
        ("shop/templates/cart.html", "<", "<!-- --><", {"frontend"}),
        ("shop/static/style.css", "{", "{ ", {"frontend"}),
        ("shop/money.py", "def shown(", "def shown(*_: object, ", {"frontend"}),
        ("shop/catalog.py", "WORDS_MAX = ", "WORDS_MAX = 1 + ", {"catalog"}),
        ("shop/recommendations.py", '"""', '"""Or: ', set[str]()),
        ("README.md", "#", "##", set[str]()),
    ],
)  # fmt: skip
def test_which_services_a_change_alters(
    shop: Path, released: Callable[..., Release], file: str, before: str, after: str, services: set[str]
):
    earlier = released(shop)
    edit(shop / file, before, after)
    found = changed(earlier, released(shop))
    assert set(found) == services, found
    assert all(file in reason for reasons in found.values() for reason in reasons)


def test_configuration_and_locks(shop: Path, released: Callable[..., Release]):
    earlier = released(shop)
    with (shop / "fissile.toml").open("a") as settings:
        settings.write('[services.cart]\nreplicas = 3\nlimits = { memory = "200M" }\n')
    assert changed(earlier, released(shop)) == {"cart": ("[services.cart] changed",)}
    (shop / "uv.lock").write_text("newer")
    reasons = changed(earlier, released(shop))
    assert len(reasons) == 8
    assert all("uv.lock is new" in one for one in reasons.values())


def test_how_many_replicas_there_are_is_no_new_build(shop: Path, released: Callable[..., Release]):
    earlier = released(shop)
    with (shop / "fissile.toml").open("a") as settings:
        settings.write("[services.cart]\nreplicas = 3\nscale = { min = 3, max = 4 }\n")
    assert changed(earlier, released(shop)) == {}


def test_the_node_service_is_its_program(shop: Path, released: Callable[..., Release]):
    earlier = released(shop, "polyglot")
    edit(shop / "node" / "payments.js", "//", "// //")
    assert changed(earlier, released(shop, "polyglot")) == {"payments": ("node/payments.js changed",)}


def test_data_is_no_code(tmp_path: Path):
    for file in (
        "app.py",
        "package/__init__.py",
        "package/pages/page.html",
        "package/cache.sqlite3",
        "package/__pycache__/x.pyc",
        "data/orders.db",
        "data/big.csv",
        "templates/page.html",
        ".git/config",
        "venv/pyvenv.cfg",
        "venv/lib/module.py",
        "notes.txt",
    ):
        path = tmp_path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    found = {path for path, _ in read_files(tmp_path)}
    assert found == {"app.py", "package/__init__.py", "package/pages/page.html", "templates/page.html"}


def test_a_folder_that_is_no_application(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(source, "FILES_MAX", 3)
    for number in range(5):
        (tmp_path / f"module_{number}.py").touch()
    with pytest.raises(ConfigError, match="more than 3 files of code"):
        dict(read_files(tmp_path))


def test_a_release_survives_being_written_down(released: Callable[..., Release]):
    found = released(SHOP)
    again = msgspec.json.decode(msgspec.json.encode(found), type=Release)
    assert again.name == found.name
    assert difference(found, again).changes == difference(found, again).breaks == ()
    assert set(difference(found, again).unchanged) == set(found.builds)

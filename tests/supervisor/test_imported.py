"""With a `code` that is too narrow: what a service imports counts for all that, and of a program it is said."""

from collections.abc import Callable
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

from fissile.orchestrator.release import Build
from fissile.runtime.settings import settings_from
from fissile.supervisor.copies import survey
from fissile.supervisor.source import release_of, uncounted

FAST = f"fast{EXTENSION_SUFFIXES[-1]}"
SITE = {
    "mysite/__init__.py": "",
    "mysite/wsgi.py": "import os\nos.environ.setdefault('DJANGO_SETTINGS_MODULE', 'mysite.settings')\napp = print\n",
    "mysite/settings.py": "INSTALLED_APPS = ['blog']\n",
    "mysite/page.html": "<p>",
    "blog/__init__.py": "",
    "blog/models.py": "def save():\n    import tools.text\n",
    "blog/templatetags/marks.py": "",
    "blog/page.html": "<p>",
    "tools/__init__.py": "",
    "tools/text.py": "",
    "worker/__init__.py": "import blog\n",
    "manage.py": "",
    "run.sh": "",
}

Fill = Callable[[dict[str, str]], Path]


@pytest.fixture
def fill(tmp_path: Path) -> Fill:
    def fill(files: dict[str, str]) -> Path:
        for path, content in files.items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text(content)
        return tmp_path

    return fill


def build(root: Path, **site: object) -> Build:
    settings = settings_from({"services": {"site": site}}, root / "fissile.toml")
    return release_of(settings, None, "monolith", {"site": ()}).builds["site"]


def altering(root: Path, files: dict[str, str], **site: object) -> set[str]:
    """The files whose edit makes another build."""
    found: set[str] = set()
    for path in files:
        before = build(root, **site)
        with (root / path).open("a") as file:
            file.write("\nx = 1\n")
        if build(root, **site) != before:
            found.add(path)
    return found


@pytest.mark.parametrize("kind", ["wsgi", "asgi"])
@pytest.mark.parametrize("code", [["mysite/*"], []])
def test_what_it_imports_is_its_code(fill: Fill, kind: str, code: list[str]) -> None:
    root = fill(SITE)
    named = {"mysite/page.html"} if code else set[str]()
    without = {"mysite/page.html", "blog/page.html", "worker/__init__.py", "manage.py", "run.sh"}
    found = altering(root, SITE, **{kind: "mysite.wsgi:app"}, code=code)
    assert found == SITE.keys() - without | named


def test_a_variable_that_names_a_module_imports_it(fill: Fill) -> None:
    root = fill({"site/wsgi.py": "", "conf.py": "", "site/extra/one.py": "", "other.py": ""})
    own = {"wsgi": "wsgi:app", "folder": "site", "code": ["site/wsgi.py"]}
    files = {"conf.py": "", "site/extra/one.py": "", "other.py": ""}
    assert altering(root, files, **own) == set()
    assert altering(root, files, **own, environment={"CONF": "conf", "ONE": "extra.one"}) == {
        "conf.py",
        "site/extra/one.py",
    }


def test_of_an_application_that_is_installed_all_modules_count(fill: Fill) -> None:
    files = {"settings/one.py": "", "page.html": ""}
    found = altering(fill(files), files, wsgi="nowhere.installed:app", code=["page.html"])
    assert found == files.keys()


def test_a_module_that_was_built_in_place_is_code(fill: Fill) -> None:
    root = fill({"main.py": "import fast\n", FAST: "", "page.html": ""})
    assert FAST in survey(root, settings_from({"app": "main:app"}, root / "fissile.toml")).paths
    assert altering(root, {FAST: ""}, asgi="main:app", code=["page.html"]) == {FAST}


@pytest.mark.parametrize(
    ("command", "own", "first"),
    [
        ("uvicorn src.main:app --port 8000", {}, "src/extra.py and 1 more"),
        ("gunicorn -w 2 main:app", {"folder": "src"}, "src/extra.py and 1 more"),
        ("uvicorn --app-dir src main:app", {}, "src/extra.py and 1 more"),
        ("python -m main", {"folder": "src"}, "src/extra.py and 1 more"),
        ("python src/main.py", {}, "src/extra.py and 1 more"),
        ("uvicorn src.main:app", {"code": []}, "src/extra.py and 1 more"),
        ("node server.js", {}, "server.js"),
        ("npm start", {}, "server.js"),
        ("uvicorn src.main:app", {"code": ["src/**"]}, ""),
        ("node server.js", {"code": ["*.js"]}, ""),
        ("postgres -D src.main:app", {"code": []}, ""),
        ("sleep 1.5", {"code": []}, ""),
    ],
)
def test_what_a_program_runs_and_code_does_not_name_is_said(
    fill: Fill, command: str, own: dict[str, object], first: str
) -> None:
    package = '{"scripts": {"start": "node server.js"}}'
    root = fill({"src/main.py": "import extra\n", "src/extra.py": "", "server.js": "", "package.json": package})
    service = {"command": command, "code": ["package.json"]} | own
    found = list(uncounted(root, settings_from({"services": {"api": service}}, root / "fissile.toml")))
    assert found == ([f"api runs {first}, not named by its `code`: edits there are in no release"] if first else [])

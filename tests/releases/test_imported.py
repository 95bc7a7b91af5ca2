"""With a `code` that is too narrow: what a service imports counts for all that, and of a program it is said."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from types import ModuleType

import msgspec
import pytest

from fissile.releases.commands import editable, environments, import_folders
from fissile.releases.fingerprint import release_of, uncounted
from fissile.releases.release import Build
from fissile.releases.snapshot import find_code
from fissile.runtime.loading import import_from_copy
from fissile.settings.load import settings_from

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
    assert FAST in find_code(root, settings_from({"app": "main:app"}, root / "fissile.toml")).paths
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


def test_a_member_of_a_workspace_is_code_however_deep_it_lies(fill: Fill) -> None:
    own = {"packages/python/foo/pyproject.toml": "", "packages/python/foo/src/foo/__init__.py": ""}
    root = fill({"main.py": "", "data/a/b/c/d/sent.py": ""} | own)
    found = find_code(root, settings_from({"app": "main:app"}, root / "fissile.toml")).paths
    assert {"main.py", "packages/python/foo/src/foo/__init__.py"} <= found
    assert "data/a/b/c/d/sent.py" not in found


def test_projects_that_are_installed_where_they_are_run_from_the_copy(
    fill: Fill, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = fill({"libs/foo/src/foo/__init__.py": "", "libs/b r/bar/__init__.py": "", ".venv/pyvenv.cfg": ""})
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    packages = root / ".venv/lib/python3.12/site-packages"
    for name, url, told in (
        ("foo", f"file://{root}/libs/foo", {"editable": True}),
        ("bar", f"file://{root}/libs/b%20r", {"editable": True}),
        ("copied", f"file://{root}/libs/copied", {}),
        ("other", f"file://{elsewhere}", {"editable": True}),
    ):
        (packages / f"{name}-1.dist-info").mkdir(parents=True)
        document = msgspec.json.encode({"url": url, "dir_info": told})
        (packages / f"{name}-1.dist-info/direct_url.json").write_bytes(document)
    for command, environment in (
        ("python main.py", {}),
        ("../.venv/bin/python main.py", {}),
        ("uvicorn main:app", {"PATH": f"{root}/.venv/bin"}),
    ):
        top = elsewhere if environment or "/" in command else root
        assert packages in environments(command, root / "libs", top, environment), command
    assert editable([packages], [root]) == ["libs/b r", "libs/foo"]
    assert import_folders(root, ["libs/b r", "libs/foo", "gone"]) == [
        str(root / one) for one in ("libs/b r", "libs/foo/src", "libs/foo")
    ]
    (packages / "foo-1.dist-info/direct_url.json").unlink()
    (packages / "foo-1.dist-info").rmdir()
    assert editable([packages], [root]) == ["libs/b r"]


def test_packages_that_a_finder_knows_are_imported_from_the_copy(
    fill: Fill, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = fill({"foo/__init__.py": "", "one.py": "", "left/__init__.py": ""})
    copy = tmp_path_factory.mktemp("copy")
    shutil.copytree(root, copy, dirs_exist_ok=True, ignore=shutil.ignore_patterns("left"))
    finder = ModuleType("__editable___foo_1_finder")
    given = {"foo": f"{root}/foo", "one": f"{root}/one", "left": f"{root}/left", "json": "/usr/lib/json"}
    vars(finder).update(MAPPING=dict(given), NAMESPACES={"space": [f"{root}/foo"]})
    monkeypatch.setitem(sys.modules, finder.__name__, finder)
    monkeypatch.setattr(sys, "path", list(sys.path))
    import_from_copy(root, copy)
    assert vars(finder)["MAPPING"] == given | {"foo": f"{copy}/foo", "one": f"{copy}/one"}
    assert vars(finder)["NAMESPACES"] == {"space": [f"{copy}/foo"]}


@pytest.mark.skipif(os.getuid() != 0, reason="another user is needed")
def test_a_folder_on_the_path_that_is_closed_has_no_packages(open_path: Path) -> None:
    (open_path / "closed/bin").mkdir(parents=True)
    (open_path / "closed/pyvenv.cfg").touch()
    (open_path / "closed").chmod(0o700)
    given = {"PATH": f"{open_path}/closed/bin"}
    code = (
        "import os; os.setresuid(65534, 65534, 65534)\nfrom pathlib import Path\n"
        f"print([*environments('x', Path('/'), Path('/'), {given})])"
    )
    line = [sys.executable, "-c", f"from fissile.releases.commands import environments\n{code}"]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert (done.returncode, str(open_path) in done.stdout) == (0, False), done

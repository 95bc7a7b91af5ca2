"""Applications that know nothing of Fissile: a Django and a FastAPI project, and PostgreSQL as a service."""

import json
import os
import shutil
import subprocess
import sys
import threading
import urllib.parse
import urllib.request
from http.client import HTTPException
from pathlib import Path

import pytest
from background import Up, background, text_at, wait_until
from commands import fissile

EXAMPLES = Path(__file__).parents[2] / "examples"


def copy(name: str, tmp_path: Path) -> Path:
    """An example in a folder of the test's own."""
    return Path(shutil.copytree(EXAMPLES / name, tmp_path / name, ignore=shutil.ignore_patterns(".*", "__pycache__")))


def up(app: Up, *options: str) -> str:
    """Start it; the address of its page."""
    result = fissile("up", app.folder, "--json", *options)
    assert result.returncode == 0, result
    app.status()
    services = json.loads(result.stdout)["services"]
    found = [address for service in services.values() for address in service["public"].values()]
    return next(address for address in found if address.startswith("http"))


@pytest.mark.parametrize("name", ["fastapi_site", "django_site"])
def test_it_is_restarted_and_scaled_without_losing_a_request(name: str, tmp_path: Path):
    with background(copy(name, tmp_path)) as app:
        page = up(app)
        done, failed, count = threading.Event(), list[str](), [0]

        def load() -> None:
            while not done.is_set():
                try:
                    text_at(page)
                    count[0] += 1
                except (OSError, HTTPException) as error:
                    failed.append(repr(error))

        threads = [threading.Thread(target=load) for _ in range(3)]
        for thread in threads:
            thread.start()
        try:
            before = app.pids("site")
            assert fissile("restart", "site", "--path", app.folder).returncode == 0
            assert not set(before) & set(app.pids("site"))
            assert fissile("scale", "site", "3", "--path", app.folder).returncode == 0
            wait_until(lambda: len(app.pids("site")) == 3, "three replicas")
            os.kill(app.pids("site")[0], 9)
            wait_until(lambda: len(app.pids("site")) == 3, "three again")
            assert fissile("scale", "site", "1", "--path", app.folder).returncode == 0
            wait_until(lambda: len(app.pids("site")) == 1, "one replica")
        finally:
            done.set()
            for thread in threads:
                thread.join()
        assert count[0] > 20
        # The one that was killed had taken connections with it.
        assert len(failed) <= 3
        app.down()


def test_a_guest_book_keeps_what_is_written(tmp_path: Path):
    with background(copy("django_site", tmp_path)) as app:
        page = up(app)
        for name in ("Ada", "Grace"):
            urllib.request.urlopen(page, urllib.parse.urlencode({"name": name}).encode(), timeout=10).close()
        assert "2 so far" in text_at(page)
        app.down()


def test_the_same_project_by_asgi(tmp_path: Path):
    folder = copy("django_site", tmp_path)
    (folder / "fissile.toml").write_text('[services.site]\nasgi = "mysite.asgi:application"\n')
    with background(folder) as app:
        assert "Guest book" in text_at(up(app))
        app.down()


def test_variables_of_a_service_outlive_its_replicas(tmp_path: Path):
    """A module that one replica has imported by itself is imported for the next ones, and has read variables then."""
    (tmp_path / "settings.py").write_text("import os\nname = os.environ.get('NAME', 'nobody')\n")
    (tmp_path / "main.py").write_text(
        "from settings import name\ndef app(environ, start):\n    start('200 OK', [])\n    return [name.encode()]\n"
    )
    services = [f'[services.{one}]\nwsgi = "main:app"\nenvironment = {{ NAME = "{one}" }}\n' for one in ("a", "b")]
    (tmp_path / "fissile.toml").write_text("".join(services) + '[services.c]\nwsgi = "main:app"\n')
    with background(tmp_path) as app:
        result = fissile("up", "--json", cwd=tmp_path)
        assert result.returncode == 0, result
        for _ in range(2):
            for name, said in (("a", "a"), ("b", "b"), ("c", "nobody")):
                (before,) = app.pids(name)
                app.kill(before)
                wait_until(lambda name=name, before=before: set(app.pids(name)) - {before}, "another replica")
                (page,) = json.loads(result.stdout)["services"][name]["public"].values()
                assert text_at(page) == said
        app.down()


@pytest.mark.parametrize(
    ("service", "words"),
    [
        ('asgi = "main:nothing"', "main has no application 'nothing'"),
        ('asgi = "missing:app"', "there is no module 'missing'"),
        ('command = "no-such-program --at-all"', "there is no program 'no-such-program'"),
        ('command = "sleep 60"\nstart_seconds = 0.5', "was not ready within 0.5 s: it does not listen at port "),
        (
            "command = \"sh -c 'python3 -m http.server 8473'\"\nstart_seconds = 1",
            "(in its environment as PORT), but at 8473",
        ),
        (
            """command = "sh -c 'python3 -m http.server $PORT'"\nready = "/none"\nstart_seconds = 1""",
            "but does not answer there as `ready` says",
        ),
        ('command = "false"', "ended with exit code 1 before it was ready"),
        ('command = "true"\nasgi = "main:app"', "a service is one of them"),
    ],
)
def test_mistakes(service: str, words: str, tmp_path: Path):
    folder = copy("fastapi_site", tmp_path)
    (folder / "fissile.toml").write_text(f"[services.site]\n{service}\n")
    result = fissile("up", folder)
    assert result.returncode == 2, result
    assert words in result.stderr
    assert "Traceback" not in result.stderr


def test_what_is_starting_is_said_to_be(tmp_path: Path):
    """It is no monolith of one process, though nobody takes orders so far."""
    (tmp_path / "fissile.toml").write_text('[services.site]\ncommand = "sleep 60"\nstart_seconds = 4\n')
    with subprocess.Popen([sys.executable, "-m", "fissile", "up", tmp_path], stderr=subprocess.PIPE) as started:
        said: list[str] = []
        while started.poll() is None:
            said.append(fissile("status", tmp_path).stderr)
        assert [one for one in said if "is starting (pid" in one]
        assert not [one for one in said if "one process" in one]


def test_postgresql_as_a_service_keeps_its_data(open_path: Path):
    if not sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb")) and shutil.which("initdb") is None:
        pytest.skip("there is no PostgreSQL: apt-get install postgresql")
    # The server runs as another user than root.
    with background(copy("shop", open_path)) as app:
        options = ("--profile", "postgres", "--topology", "trio", "--port", "0")
        page = up(app, *options)
        assert "216 products" in text_at(f"{page}/products")
        call = ("call", "Cart.add", '{"cart": "ada", "product": "fjord-mug", "quantity": 2}', "--path", app.folder)
        added = fissile(*call)
        assert added.returncode == 0, added
        assert fissile("restart", "database", "--path", app.folder).returncode == 0
        app.down()
        up(app, *options)
        again = fissile("call", "Cart.lines", '{"cart": "ada"}', "--path", app.folder)
        assert "fjord-mug" in again.stdout, again
        status = app.status()
        (database,) = [service for service in status["services"] if service["name"] == "database"]
        assert database["limits"]["memory"] == "512M"
        app.down()

"""What `fissile init` proposes: a table of folders, each with the services that its fissile.toml then has."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

from fissile.settings.load import load, settings_from
from fissile.settings.proposal import render as rendering
from fissile.settings.proposal.folder import Folder
from fissile.settings.proposal.proposal import Role
from fissile.settings.proposal.propose import propose
from fissile.settings.proposal.render import render, said
from fissile.settings.schema import ServiceSettings

FASTAPI = "from fastapi import FastAPI\n\napp = FastAPI()\n"
FLASK = "import flask\n\napp = flask.Flask(__name__)\n"
FACTORY = "from flask import Flask\n\n\ndef create_app():\n    app = Flask(__name__)\n    return app\n"
MANAGE = 'import os\nos.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")\n'
DJANGO = {
    "manage.py": MANAGE,
    "shop/__init__.py": "",
    "shop/settings.py": 'WSGI_APPLICATION = "shop.wsgi.application"\n',
    "shop/wsgi.py": "from django.core.wsgi import get_wsgi_application\n\napplication = get_wsgi_application()\n",
    "shop/asgi.py": "from django.core.asgi import get_asgi_application\n\napplication = get_asgi_application()\n",
}
COMPOSE = """
x-common: &common
  build: .
  env_file: [secrets.env]
  environment: &variables
    DATABASE_URL: postgres://shop:pa55@db:5432/shop
    CACHE: redis://cache:6379/0  # the cache's own address
    STYLE: "dark # and quiet"
services:
  web:
    <<: *common
    command: gunicorn shop.wsgi:application --bind 0.0.0.0:80 --workers 3
    ports: ["80:80"]
    depends_on: [db, cache]
  queue:
    <<: *common
    command: ["celery", "-A", "shop", "worker"]
  db:
    image: postgres:16
    ports:
    - "127.0.0.1:5433:5432"
  cache:
    image: docker.io/library/redis:7-alpine
  mail:
    image: mailhog/mailhog
"""
MAIN = {"main.py": FASTAPI}

# Name, files, the services that are written, and what has to be said.
ROWS: list[tuple[str, dict[str, str], dict[str, dict[str, Any]], list[str]]] = [
    ("fastapi", MAIN, {"shop": {"asgi": "main:app"}}, ["assumed: FastAPI is served as asgi: main:app (main.py:3)"]),
    (
        "fastapi in src",
        {"src/shop/__init__.py": "", "src/shop/main.py": FASTAPI},
        {"shop": {"asgi": "shop.main:app"}},
        ["to do: make src/ importable"],
    ),
    (
        "starlette, annotated and wrapped",
        {
            "app.py": "from starlette.applications import Starlette\n"
            "from starlette.types import ASGIApp\nfrom mine import Wrapped\n\n"
            "inner: ASGIApp = Starlette()\napp = Wrapped(inner)\n"
        },
        {"shop": {"asgi": "app:inner"}},
        [],
    ),
    (
        "litestar below a condition",
        {"app.py": "try:\n    from litestar import Litestar as L\nexcept ImportError:\n    raise\napp = L([])\n"},
        {"shop": {"asgi": "app:app"}},
        [],
    ),
    ("flask", {"app.py": FLASK}, {"shop": {"wsgi": "app:app"}}, ["to do: WSGI needs a2wsgi"]),
    (
        "a factory that a wsgi.py calls",
        {"shop/__init__.py": FACTORY, "wsgi.py": "from shop import create_app\n\napp = create_app()\n"},
        {"shop": {"wsgi": "wsgi:app"}},
        [],
    ),
    (
        "a factory that is passed on",
        {
            "shop/__init__.py": "from .making import create_app\n",
            "shop/making.py": FACTORY,
            "wsgi.py": "import shop\n\napplication = shop.create_app()\n",
        },
        {"shop": {"wsgi": "wsgi:application"}},
        [],
    ),
    (
        "a factory that nobody calls",
        {"shop/__init__.py": FACTORY.replace("create_app()", "create_app(config, debug=False)")},
        {"shop": {"wsgi": "served:app"}},
        ["shop:create_app is a factory", "save this as served.py", "    app = create_app(config)"],
    ),
    (
        "only for those who run it by hand",
        {"app.py": f"{FASTAPI}\nif __name__ == '__main__':\n    other = FastAPI()\n"},
        {"shop": {"asgi": "app:app"}},
        [],
    ),
    (
        "several applications",
        {"main.py": FASTAPI, "admin.py": FASTAPI, "tests/test_app.py": FASTAPI, "broken.py": "def"},
        {"shop": {"asgi": "main:app"}},
        ["unclear: which application is meant; there are also admin:app (FastAPI, admin.py:3)"],
    ),
    (
        "django",
        {**DJANGO, "notes/migrations/0001_initial.py": ""},
        {"django": {"wsgi": "shop.wsgi:application"}},
        ["for asynchronous ones, asgi = 'shop.asgi:application'", "to do: run `python manage.py migrate`"],
    ),
    (
        "django with channels",
        {**DJANGO, "requirements.txt": "channels==4.1\n"},
        {"django": {"asgi": "shop.asgi:application"}},
        [],
    ),
    (
        "django, with postgresql",
        {**DJANGO, "shop/settings.py": 'ENGINE = "django.db.backends.postgresql"\n'},
        {"django": {"wsgi": "shop.wsgi:application"}},
        ["unclear: where PostgreSQL runs"],
    ),
    (
        "components",
        {
            "shop.py": "from fissile import Application\n\napp = Application()\n",
            "Makefile": "serve:\n\tpython labels.py\n",
        },
        {},
        ["assumed: shop:app is the application", "unclear: whether `make serve`"],
    ),
    (
        "procfile of a django project",
        {
            **DJANGO,
            "Procfile": "release: python manage.py migrate\n"
            "web: gunicorn -w 4 shop.wsgi --log-file -\nworker: celery -A shop worker\nbeat: python beat.py\n",
        },
        {"web": {"wsgi": "shop.wsgi:application", "replicas": 4}},
        [
            "assumed: `python manage.py migrate` (Procfile: release) runs once for each release",
            "assumed: beat is a worker",
            "to do: start worker as before",
            "to do: run `python manage.py migrate`",
        ],
    ),
    (
        "procfile with uvicorn workers and a variable",
        {**MAIN, "Procfile": "web: gunicorn -k uvicorn.workers.UvicornWorker main:app --bind 0.0.0.0:$PORT"},
        {"web": {"asgi": "main:app"}},
        [],
    ),
    (
        "procfile with a wrapper and a factory",
        {"shop/__init__.py": FACTORY, "Procfile": "web: poetry run gunicorn 'shop:create_app()' -b :9000"},
        {"web": {"wsgi": "served:app", "port": 9000}},
        ["save this as served.py"],
    ),
    (
        "procfile with a program at $PORT",
        {"Procfile": "web: ./serve --listen $PORT"},
        {"web": {"command": "sh -c 'exec ./serve --listen $PORT'", "port": 8000, "ready": "tcp"}},
        [],
    ),
    (
        "procfile with a chain",
        {**MAIN, "Procfile": "web: alembic upgrade head && exec uvicorn main:app --port 8080"},
        {"web": {"asgi": "main:app", "port": 8080}},
        ["to do: run `alembic upgrade head`"],
    ),
    (
        "compose",
        {**DJANGO, "compose.yaml": COMPOSE},
        {
            "web": {
                "wsgi": "shop.wsgi:application",
                "port": 8000,
                "replicas": 3,
                "environment": {"CACHE": "redis://127.0.0.1:6379/0", "STYLE": "dark # and quiet"},
            }
        },
        [
            "assumed: web is at port 8000, not 80",
            "to do: set DATABASE_URL where you call `fissile up`",
            "PostgreSQL (db) is at 127.0.0.1:5433",
            "Redis (cache) is published at no port",
            "unclear: what mail (mailhog/mailhog) is for",
            "to do: start queue as before",
        ],
    ),
    (
        "compose with the image's command, in a folder",
        {
            "docker-compose.yml": "services:\n  api:\n    build: ./api\n    ports:\n      - 8000:8000\n  ui:\n    build: ui\n",  # noqa: E501
            "api/Dockerfile": 'FROM python\nCMD ["uvicorn", "main:app", "--host", "0.0.0.0", "--port", "8000"]\n',
            "api/main.py": f"import settings\n{FASTAPI}",
            "api/settings.py": "",
        },
        {
            "api": {
                "command": "uvicorn main:app --host 0.0.0.0 --port 8000",
                "folder": "api",
                "port": 8000,
                "ready": "tcp",
            }
        },
        ["assumed: api keeps uvicorn: its modules lie in api/", "docker-compose.yml does not say what ui starts"],
    ),
    (
        "dockerfile",
        {**MAIN, "Dockerfile": 'FROM python\nENTRYPOINT ["/entry.sh"]\nCMD python -m uvicorn main:app\n'},
        {"web": {"asgi": "main:app"}},
        [],
    ),
    (
        "compose that is not understood",
        {**MAIN, "compose.yml": "services:\n  web: !!python/name:x\n"},
        {"shop": {"asgi": "main:app"}},
        ["unclear: compose.yml is not understood from line 2 on"],
    ),
    (
        "procfile before compose",
        {
            **MAIN,
            "Procfile": "web: fastapi run main.py",
            "compose.yml": "services:\n  w:\n    build: .\n    command: x\n",
        },
        {"web": {"asgi": "main:app"}},
        ["assumed: the Procfile counts, and what compose.yml starts does not", "is taken to serve main:app"],
    ),
    (
        "npm start",
        {"package.json": '{"scripts": {"start": "node server.js"}}', "server.js": "listen(process.env.PORT)"},
        {"web": {"command": "npm start", "port": 8000, "ready": "tcp"}},
        [],
    ),
    (
        "a node program with a fixed port",
        {"package.json": '{"main": "./index.js"}', "./index.js": "", "index.js": "server.listen(3000)"},
        {"web": {"command": "node ./index.js", "port": 3000, "ready": "tcp"}},
        [],
    ),
    (
        "a front end beside",
        {**MAIN, "package.json": '{"scripts": {"start": "vite"}}'},
        {"shop": {"asgi": "main:app"}},
        ["unclear: package.json starts a server for developers (vite)"],
    ),
    (
        "a program beside an application",
        {**MAIN, "chat.py": "import os\nserve(chat, '', int(os.environ['PORT']))\n"},
        {
            "shop": {"asgi": "main:app", "port": 8000},
            "chat": {"command": "python chat.py", "port": 8001, "ready": "tcp"},
        },
        ["assumed: chat.py is a program of its own"],
    ),
    (
        "variables that the code asks for",
        {
            "main.py": FASTAPI + "import os\nA = os.environ['SHOP']\nB = os.environ.get('B')\nos.environ['C'] = ''\n",
            "static/a.js": "const { ONE, TWO: two, THREE = 3 } = process.env; f(process.env.X || 1, process.env.Y)",
        },
        {"shop": {"asgi": "main:app"}},
        ["unclear: which values these variables need: ONE, SHOP, TWO, Y ("],
    ),
    (
        "variables that nobody reads",
        {**MAIN, ".env": ""},
        {"shop": {"asgi": "main:app"}},
        ["to do: nothing here reads .env"],
    ),
]


def folder(files: dict[str, str], **more: Any) -> Folder:
    return Folder("shop", files, frozenset(files), **more)


def services(text: str, path: Path) -> dict[str, dict[str, Any]]:
    """What is written, after it was read as `fissile up` reads it."""
    file = path / "fissile.toml"
    file.write_text(text)
    load(file)
    return tomllib.loads(text).get("services", {})


@pytest.mark.parametrize(("files", "written", "told"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_what_is_proposed(
    files: dict[str, str], written: dict[str, Any], told: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    proposal = propose(folder(files))
    text = render(proposal)
    assert services(text, tmp_path) == written
    lines = "\n".join(said(proposal))
    for one in told:
        assert one in lines
    # All of it stands in the file, too, for whoever reads it later.
    unwrapped = " ".join(text.replace("#", " ").split())
    for one in (*proposal.assumed, *proposal.unclear, *proposal.to_do):
        assert " ".join(one.replace("#", " ").split()) in unwrapped
    assert max(map(len, text.splitlines())) <= 140


NOTHING = [
    {},
    {"README.md": "# Shop\n"},
    {"lib.py": "def add(a, b): return a + b\n"},
    {"package.json": "[]"},
    {"package.json": '{"main": "gone.js"}'},
    {"Procfile": "worker: celery -A shop worker\n"},
    {f"backend/{path}": text for path, text in DJANGO.items()},
    {"api/main.py": f"import settings\n{FASTAPI}", "api/settings.py": ""},
]


@pytest.mark.parametrize("files", NOTHING, ids=lambda files: " ".join(files) or "empty")
def test_a_folder_in_which_nothing_is_found(files: dict[str, str]):
    assert propose(folder(files)).empty


@pytest.mark.parametrize(("files", "place"), [(NOTHING[-2], "backend"), (NOTHING[-1], "api")])
def test_an_application_in_a_folder_of_its_own_is_named(files: dict[str, str], place: str):
    (told,) = propose(folder(files)).unclear
    assert f"`fissile -C {place} init` proposes it" in told


def test_keys_to_come_are_there_as_comments():
    files = {**DJANGO, "Procfile": "web: gunicorn shop.wsgi\nclock: celery beat\n", ".env": "", "alembic.ini": ""}
    text = render(propose(folder(files, environments=(".venv",))))
    for line in (
        '# before = "alembic upgrade head"  # not yet a key of fissile.toml',
        '# env_file = [".env"]  # not yet a key of fissile.toml',
        '# python = ".venv/bin/python"  # not yet a key of fissile.toml',
        "# [services.clock]",
        '# kind = "worker"',
        '# command = "celery beat"',
    ):
        assert line in text.splitlines()


@pytest.mark.parametrize(
    ("key", "constant"),
    [("kind", "HAS_KIND"), ("before", "HAS_BEFORE"), ("env_file", "HAS_ENV_FILE"), ("python", "HAS_PYTHON")],
)
def test_a_key_is_written_as_soon_as_it_is_there(
    key: str, constant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    there = key in ServiceSettings.__struct_fields__
    assert getattr(rendering, constant) == there, f"set {constant} = {there} in settings/proposal/render.py"
    monkeypatch.setattr(rendering, constant, True)
    files = {**DJANGO, "Procfile": "web: gunicorn shop.wsgi\nclock: celery beat\n", ".env": "", "alembic.ini": ""}
    written = tomllib.loads(render(propose(folder(files, environments=(".venv",)))))["services"]
    service = written["clock" if key == "kind" else "web"]
    assert key in service
    if there:
        settings_from({"services": {"web": service}}, tmp_path / "fissile.toml")


def test_an_environment_that_is_active_needs_no_note():
    proposal = propose(folder(MAIN, environments=(".venv",), active=".venv"))
    assert proposal.services[0].interpreter == ""
    assert proposal.to_do == ()


def test_a_worker_is_no_service_that_answers():
    (web, worker) = propose(folder({**MAIN, "Procfile": "web: uvicorn main:app\nqueue: rq worker\n"})).services
    assert (web.role, worker.role) == (Role.WEB, Role.WORKER)


def test_names_that_fissile_does_not_take_are_made_to_fit(tmp_path: Path):
    named = Folder("42 Größe & Co.", MAIN, frozenset(MAIN))
    assert list(services(render(propose(named)), tmp_path)) == ["gr-e-co"]
    files = {**MAIN, "Procfile": "Web: uvicorn main:app\nweb: node x.js --port 9001\n"}
    assert list(services(render(propose(folder(files))), tmp_path)) == ["web", "web-2"]


def test_text_that_toml_has_to_escape(tmp_path: Path):
    files = {"Procfile": 'web: echo "a\\"b" \x7f\\\\ >&2; ./serve --listen $PORT'}
    (service,) = services(render(propose(folder(files))), tmp_path).values()
    assert service["command"].startswith("sh -c ")

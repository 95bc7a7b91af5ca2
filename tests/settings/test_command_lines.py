"""What command lines of Procfiles, Compose files and Dockerfiles are understood as; and the YAML of Compose files."""

from typing import Any

import pytest

from fissile.settings.proposal.commands import CommandLine, understand
from fissile.settings.proposal.compose import composed
from fissile.settings.proposal.yaml import NotRead, read

LINES: list[tuple[str | list[str], dict[str, Any]]] = [
    ("gunicorn shop.wsgi", {"server": "gunicorn", "kind": "wsgi", "target": "shop.wsgi:application"}),
    ("gunicorn --preload shop.wsgi", {"target": "shop.wsgi:application"}),
    ("gunicorn -b 0.0.0.0:8001 --workers=4 shop:app", {"target": "shop:app", "port": 8001, "replicas": 4}),
    ("gunicorn -w $WORKERS shop:app", {"replicas": 0, "shell": True}),
    ("gunicorn -k uvicorn.workers.UvicornWorker shop:app", {"kind": "asgi", "target": "shop:app"}),
    ("gunicorn 'shop:create_app(\"test\")'", {"target": "shop:create_app", "factory": True}),
    ("uvicorn main:app --port $PORT", {"server": "uvicorn", "kind": "asgi", "target": "main:app", "port": 0}),
    ("uvicorn --factory main:make --app-dir api", {"factory": True, "folder": "api"}),
    ("python -m uvicorn main:app --port 9000", {"server": "uvicorn", "port": 9000}),
    ("python3.12 -u -m hypercorn asgi:main:app", {"server": "hypercorn", "target": "main:app"}),
    ("hypercorn main", {"target": "main:app"}),
    ("daphne -b 0.0.0.0 -p 8002 shop.asgi:application", {"kind": "asgi", "port": 8002}),
    ("granian --interface wsgi shop:app", {"kind": "wsgi", "target": "shop:app"}),
    ("waitress-serve --listen=*:8080 shop:app", {"kind": "wsgi", "port": 8080}),
    ("waitress-serve --call shop:create_app", {"factory": True}),
    ("uwsgi --http :8080 --module shop.wsgi:application -p 4", {"target": "shop.wsgi:application", "replicas": 4}),
    ("flask --app shop:app run -p 5001", {"server": "flask run", "target": "shop:app", "port": 5001}),
    ("flask run --host 0.0.0.0", {"server": "flask run", "framework": "Flask"}),
    ("fastapi run app/main.py --port 80", {"framework": "FastAPI", "kind": "asgi", "port": 80}),
    ("litestar run", {"framework": "Litestar"}),
    ("python manage.py runserver 0.0.0.0:8000", {"framework": "Django", "port": 8000, "server": "runserver"}),
    ("exec env A=1 poetry run gunicorn shop:app", {"environment": (("A", "1"),), "target": "shop:app"}),
    (["sh", "-c", "python manage.py migrate && exec gunicorn shop:app"], {"before": ("python manage.py migrate",)}),
    ("bash -lc 'uvicorn main:app'", {"target": "main:app"}),
    ("a; b && node 'c && d.js'", {"before": ("a", "b"), "text": "node 'c && d.js'", "server": ""}),
    ("node server.js | tee log", {"shell": True}),
    ("node server.js > log", {"shell": True}),
    ("serve --listen ${PORT:-80}", {"shell": True, "text": "serve --listen ${PORT:-80}"}),
    ("say 'it is'\" $WHO\"", {"shell": True, "text": 'say "it is $WHO"'}),
    ("celery -A shop worker", {"works": True}),
    ("python -m celery -A shop beat", {"works": True}),
    ("python manage.py rqworker", {"works": True}),
    ("unbalanced 'quote", {"shell": True, "text": "unbalanced 'quote"}),
    ("", {"text": "", "server": ""}),
]


@pytest.mark.parametrize(("line", "wanted"), LINES, ids=[str(line) for line, _ in LINES])
def test_a_command_line_is_understood(line: str | list[str], wanted: dict[str, Any]):
    found = understand(line)
    assert {name: getattr(found, name) for name in wanted} == wanted


def test_what_is_said_by_nobody_is_unknown():
    assert understand("node server.js") == CommandLine("node server.js")


DOCUMENTS: list[tuple[str, Any]] = [
    ("", ""),
    ("a: 1\nb:\n  c: true\n", {"a": "1", "b": {"c": "true"}}),
    ("a: # nothing\nb: ~\n", {"a": "", "b": ""}),
    ("- 1\n- a: 2\n  b: 3\n-\n  - 4\n- - 5\n  - 6\n", ["1", {"a": "2", "b": "3"}, ["4"], ["5", "6"]]),
    ("a:\n- 1\n- 2\nb: 3\n", {"a": ["1", "2"], "b": "3"}),
    (
        "a: [1, 'b, c', \"d\", 8000:80]\nb: {c: 1, d: [2]}\n",
        {"a": ["1", "b, c", "d", "8000:80"], "b": {"c": "1", "d": ["2"]}},
    ),
    ("a: [\n  1,  # one\n  2\n]\n", {"a": ["1", "2"]}),
    ("'a b': \"x: y # z\"\n", {"a b": "x: y # z"}),
    ("a: it's # said\n", {"a": "it's # said"}),
    (
        "a: |\n  one # no comment\n\n  two\nb: >-\n  three\n  four\n",
        {"a": "one # no comment\n\ntwo", "b": "three four"},
    ),
    ("a: one\n  two\nb: 3\n", {"a": "one two", "b": "3"}),
    ("x: &x\n  a: 1\ny:\n  <<: *x\n  b: 2\nz: *x\n", {"x": {"a": "1"}, "y": {"a": "1", "b": "2"}, "z": {"a": "1"}}),
    ("---\nhttp://a:80/b\n", "http://a:80/b"),
    ('a: "\\t\\"b\\""\n', {"a": '\t"b"'}),
]


@pytest.mark.parametrize(("text", "wanted"), DOCUMENTS, ids=[repr(text) for text, _ in DOCUMENTS])
def test_yaml_is_read(text: str, wanted: Any):
    assert read(text) == wanted


REFUSED = [
    ("a: 1\nb: !tag 2\n", 2),
    ("a: *nowhere\n", 1),
    ("a: [1, 2\n", 1),
    ("a: [b: c]\n", 1),
    ("a: 'open\n", 1),
    ("a: 1\n   b: 2\n", 2),
    ("a: 1\n\tb: 2\n", 2),
    ("? a\n: b\n", 1),
    ("a: 1\nplain\n", 2),
    ("a: " + "[" * 100 + "]" * 100, 1),
    ("".join(f"{' ' * n}a:\n" for n in range(100)), 42),
    ("a: {,}}", 1),
    ("\n" * 6000 + "a: 1", 5001),
]


@pytest.mark.parametrize(("text", "line"), REFUSED, ids=[repr(text[:20]) for text, _ in REFUSED])
def test_yaml_that_is_not_understood_is_refused_by_its_line(text: str, line: int):
    with pytest.raises(NotRead) as found:
        read(text)
    assert found.value.line == line


SHAPES: list[Any] = [
    "",
    [],
    {"services": []},
    {"services": {"a": "b"}},
    {"services": {"a": {"build": ["x"]}}},
    {"x": 1},
]


@pytest.mark.parametrize("document", SHAPES, ids=repr)
def test_a_compose_file_of_another_shape_is_no_error(document: Any):
    assert composed(document).stores == ()


@pytest.mark.parametrize(
    ("ports", "port"),
    [
        (["8000:80"], 8000),
        (["127.0.0.1:8001:80/tcp"], 8001),
        (["80"], 0),
        (["${WEB:-8002}:80"], 8002),
        ([{"target": "80", "published": "8003"}], 8003),
        (["8000-8010:8000-8010"], 0),
        ("", 0),
    ],
    ids=repr,
)
def test_where_a_container_is_reached(ports: Any, port: int):
    found = composed({"services": {"db": {"image": "postgres", "ports": ports}}})
    assert found.stores[0].port == port

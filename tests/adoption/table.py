"""The applications: what people edit in each, where it is to be seen, and how each keeps what is given to it."""

import json
import urllib.parse
from pathlib import Path

import redis
from driver import HOST, App, Driven, Edit, Kind, Page, ask
from websockets.sync.client import connect

FORM = {"content-type": "application/x-www-form-urlencoded"}
SHOUT = "module.exports = (text) => text.toUpperCase();\n"
INDEX = Page("/")


def env(old: str, new: str, page: Page = INDEX) -> Edit:
    """An edit of .env."""
    return Edit(".env", Kind.START, {".env": (old, new)}, page, (old.split("=")[-1], new.split("=")[-1]))


def toml(old: str, new: str) -> Edit:
    """An edit of a value in fissile.toml."""
    return Edit("fissile.toml", Kind.RELEASE, {"fissile.toml": (f'"{old}"', f'"{new}"')}, INDEX, (old, new))


# Django


def _write_note(driven: Driven, word: str) -> None:
    ask(driven.address(), "POST", "/notes/", urllib.parse.urlencode({"text": word}).encode(), FORM)


def _read_notes(driven: Driven) -> list[str]:
    notes = json.loads(ask(driven.address(), "GET", "/notes/"))["notes"]
    for note in notes:
        assert ask(driven.address(), "GET", f"/attachments/{note['id']}/") == note["text"].encode()
    return [note["text"] for note in notes]


STYLE = Page("/static/notes/style.css")
MIGRATION = """from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("notes", "0001_initial")]

    operations = [
        migrations.AddField(model_name="note", name="mood", field=models.CharField(max_length=20, null=True)),
    ]
"""

DJANGO = App(
    "django_postgres",
    "site",
    [
        Edit(
            "view",
            Kind.RELEASE,
            {"notes/views.py": ('"Notes"', '"All notes"')},
            INDEX,
            ("<h1>Notes<", "<h1>All notes<"),
        ),
        Edit("template", Kind.RELEASE, {"templates/base.html": ("Thank you for reading", "See you soon")}, INDEX),
        Edit("static file", Kind.RELEASE, {"notes/static/notes/style.css": ("seagreen", "crimson")}, STYLE),
        Edit(
            "migration",
            Kind.RELEASE,
            {
                "notes/models.py": (
                    "blank=True)\n",
                    "blank=True)\n    mood = models.CharField(max_length=20, null=True)\n",
                ),
                "notes/templates/notes/index.html": ("Kept by", "Kept in all moods by"),
            },
            INDEX,
            ("Kept by", "Kept in all moods by"),
            before=["python", "manage.py", "migrate", "--verbosity", "0"],
            added={"notes/migrations/0002_note_mood.py": MIGRATION},
        ),
        toml("First things first", "Last things last"),
        env("SITE_OWNER=Ada", "SITE_OWNER=Grace"),
    ],
    _write_note,
    _read_notes,
    data=("data", "media"),
    unbroken=True,
    recovers=True,
    prepare=["python", "manage.py", "migrate", "--verbosity", "0"],
    needs=["/usr/lib/postgresql/*/bin/initdb"],
)


# FastAPI


def _upload(driven: Driven, word: str) -> None:
    head = f'--edge\r\ncontent-disposition: form-data; name="file"; filename="{word}.txt"\r\n\r\n'
    body = f"{head}{word}\r\n--edge--\r\n".encode()
    ask(driven.address(), "POST", "/pictures/", body, {"content-type": "multipart/form-data; boundary=edge"})


def _uploads(driven: Driven) -> list[str]:
    names: list[str] = json.loads(ask(driven.address(), "GET", "/pictures/"))["pictures"]
    return in_order(ask(driven.address(), "GET", f"/pictures/{name}").decode() for name in names)


FASTAPI = App(
    "fastapi_shop",
    "shop",
    [
        Edit("code", Kind.RELEASE, {"app/main.py": ('"Welcome"', '"Good day"')}, INDEX, ("Welcome", "Good day")),
        Edit("template", Kind.RELEASE, {"templates/home.html": ("Open every day", "Open at night")}, INDEX),
        Edit("static file", Kind.RELEASE, {"static/style.css": ("green", "red")}, Page("/static/style.css")),
        Edit(
            "data file",
            Kind.DATA,
            {"data/prices.json": ('"apple": 30', '"apple": 35')},
            Page("/prices"),
            (":30", ":35"),
        ),
        toml("EUR", "CHF"),
        env("Corner shop", "Harbour shop"),
    ],
    _upload,
    _uploads,
    data=("uploads",),
    unbroken=True,
    git=False,
)


# Flask


def _visit(driven: Driven, word: str) -> None:
    ask(driven.address(), "POST", "/visits", urllib.parse.urlencode({"name": word}).encode(), FORM)


def _visits(driven: Driven) -> list[str]:
    found = json.loads(ask(driven.address(), "GET", "/visits"))
    assert in_order(found["cards"]) == found["visits"]
    with redis.Redis(HOST, driven.ports["redis"], decode_responses=True) as store:
        assert store.lrange("visits", 0, -1) == found["visits"]
    return found["visits"]


FLASK = App(
    "flask_redis",
    "counter",
    [
        Edit(
            "code", Kind.RELEASE, {"counter/__init__.py": ('"visits"', '"people"')}, INDEX, ("in visits", "in people")
        ),
        Edit("template", Kind.RELEASE, {"counter/templates/index.html": ("Come again", "Stay longer")}, INDEX),
        Edit("static file", Kind.RELEASE, {"counter/static/style.css": ("navy", "olive")}, Page("/static/style.css")),
        env("Visitors", "Guests"),
    ],
    _visit,
    _visits,
    data=("data", "instance"),
    unbroken=True,
    needs=["/usr/bin/redis-server"],
)


# Node


def _node_modules(folder: Path) -> None:
    package = folder / "node_modules" / "shout"
    package.mkdir(parents=True)
    (package / "package.json").write_text('{"name": "shout", "version": "1.0.0", "main": "index.js"}\n')
    (package / "index.js").write_text(SHOUT)


LOCK = Edit(
    "package-lock.json",
    Kind.RELEASE,
    {
        "package-lock.json": (
            '"node_modules/shout": {\n      "version": "1.0.0"',
            '"node_modules/shout": {\n      "version": "1.0.1"',
        )
    },
)


def _sign(driven: Driven, word: str) -> None:
    ask(driven.address(), "GET", f"/sign?{word}")


def _guests(driven: Driven) -> list[str]:
    return json.loads(ask(driven.address(), "GET", "/guests"))


NPM = App(
    "npm_start",
    "web",
    [
        Edit(
            "code",
            Kind.RELEASE,
            {"server.js": ("shout(GREETING)", "shout(`${GREETING}, you`)")},
            INDEX,
            ("HELLO<", "HELLO, YOU<"),
        ),
        Edit("template", Kind.RELEASE, {"views/page.html": ("Sign the guest book", "Leave a word")}, INDEX),
        Edit(
            "package.json",
            Kind.RELEASE,
            {"package.json": ('"version": "1.0.0"', '"version": "1.1.0"')},
            INDEX,
            ("version 1.0.0", "version 1.1.0"),
        ),
        LOCK,
        env("Ada", "Grace"),
    ],
    _sign,
    _guests,
    data=("var",),
    set_up=_node_modules,
    needs=["/usr/bin/npm"],
)

ABOUT = Page("/about")


def _put(driven: Driven, word: str) -> None:
    ask(driven.address(), "PUT", f"/{word}", word.encode())


def _files(driven: Driven) -> list[str]:
    return in_order(json.loads(ask(driven.address(), "GET", "/uploads")))


NODE = App(
    "node_index",
    "web",
    [
        Edit("page", Kind.RELEASE, {"public/index.html": ("Pages about pages", "Pages about people")}, INDEX),
        Edit("style", Kind.RELEASE, {"public/style.css": ("teal", "maroon")}, Page("/style.css")),
        Edit("code", Kind.RELEASE, {"index.js": ("'Pages'", "'Sheets'")}, ABOUT, ("PAGES", "SHEETS")),
        Edit(
            "package.json",
            Kind.RELEASE,
            {"package.json": ('"version": "1.0.0"', '"version": "2.0.0"')},
            ABOUT,
            (" 1.0.0 ", " 2.0.0 "),
        ),
        LOCK,
        env("Ada", "Grace", ABOUT),
    ],
    _put,
    _files,
    data=("uploads",),
    unbroken=True,
    set_up=_node_modules,
    needs=["/usr/bin/node"],
)


# Websockets


def _welcome(address: str, path: str) -> bytes:
    with connect(f"ws://{address}{path}") as socket:
        return str(socket.recv()).encode()


def _echo(address: str, path: str) -> bytes:
    with connect(f"ws://{address}{path}") as socket:
        socket.send("hello")
        return str(socket.recv()).encode()


def _say(driven: Driven, word: str) -> None:
    with connect(f"ws://{driven.address()}/") as socket:
        socket.send(word)
        while socket.recv() != word:
            pass


def _history(driven: Driven) -> list[str]:
    with connect(f"ws://{driven.address()}/") as socket:
        socket.recv()
        return json.loads(socket.recv())


ROOM = Page("/", ask=_welcome)
# All that git tracks is code of both.
BOTH = ["chat", "live"]
CHAT = App(
    "websocket_chat",
    "chat",
    [
        Edit("code", Kind.RELEASE, {"room.py": ("friendly", "quiet")}, ROOM, anew=BOTH),
        Edit("text file", Kind.RELEASE, {"welcome.txt": ("Welcome to", "Come into")}, ROOM, anew=BOTH),
        Edit(
            "asgi code",
            Kind.RELEASE,
            {"live.py": ("heard: ", "understood: ")},
            Page("/echo", "live", _echo),
            anew=BOTH,
        ),
        Edit("page", Kind.RELEASE, {"index.html": ("Say something", "Listen first")}, Page("/", "live"), anew=BOTH),
        env("ROOM=lobby", "ROOM=garden", ROOM),
    ],
    _say,
    _history,
    data=("history.jsonl",),
)


# Litestar


def _events(address: str, path: str) -> list[str]:
    lines = ask(address, "GET", path).decode().splitlines()
    return [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]


def _first_event(address: str, path: str) -> bytes:
    return _events(address, path)[0].encode()


def _publish(driven: Driven, word: str) -> None:
    ask(driven.address(), "POST", f"/news/{word}")


def _news(driven: Driven) -> list[str]:
    return _events(driven.address(), "/events")[1:]


LITESTAR = App(
    "litestar_sse",
    "news",
    [
        Edit("template", Kind.RELEASE, {"templates/index.html": ("The news", "All the news")}, INDEX),
        Edit(
            "code", Kind.RELEASE, {"headlines.py": ("Good morning", "Good evening")}, Page("/events", ask=_first_event)
        ),
        Edit("asset", Kind.RELEASE, {"assets/news.js": ("'news'", "'latest'")}, Page("/assets/news.js")),
        toml("wire", "press"),
        env("Ada", "Grace"),
    ],
    _publish,
    _news,
    data=("news.db*",),
    unbroken=True,
    page_port=True,
)


# Components


def _add_book(driven: Driven, word: str) -> None:
    ask(driven.address(), "POST", f"/books?title={word}")


def _books(driven: Driven) -> list[str]:
    return json.loads(ask(driven.address(), "GET", "/books"))


LABEL = Page("/", "labels")
LABELS = ["labels"]
COMPONENTS = App(
    "components_make",
    "pages",
    [
        Edit(
            "component", Kind.RELEASE, {"library/shelf.py": ("The oak shelf", "The tall shelf")}, INDEX, anew=["shelf"]
        ),
        Edit("template", Kind.RELEASE, {"library/templates/index.html": ("Please be quiet", "Read on")}, INDEX),
        Edit("program", Kind.RELEASE, {"labels/serve.py": ("black", "blue")}, LABEL, anew=LABELS),
        Edit(
            "make",
            Kind.RELEASE,
            {"Makefile": ("SIZE := small", "SIZE := large")},
            LABEL,
            ("small", "large"),
            anew=LABELS,
        ),
        Edit("text file", Kind.RELEASE, {"labels/label.txt": ("label in", "label, in")}, LABEL, anew=LABELS),
        Edit(
            "component's settings",
            Kind.RELEASE,
            {"fissile.toml": ("[components.Shelf]", "[services.shelf]\nconcurrency = 32\n\n[components.Shelf]")},
            anew=["shelf"],
        ),
    ],
    _add_book,
    _books,
    data=("books.txt",),
    page_port=True,
    needs=["/usr/bin/make"],
)

ALL = {app.name: app for app in (DJANGO, FASTAPI, FLASK, NPM, NODE, CHAT, LITESTAR, COMPONENTS)}


def in_order(words: "object") -> list[str]:
    """word1, word2, …, word10, as they were written: folders are listed in another order."""
    return sorted(words, key=lambda word: int(word.removeprefix("word")))  # type: ignore[attr-defined,arg-type]

"""Small changes to applications that are programs, and which services each alters."""

# ruff: noqa: E501 -- a table

from typing import NamedTuple

NOBODY = set[str]()
WEB, STORE, OTHER = "web", "store", "other"


class Program(NamedTuple):
    """files: with `<<before|after>>` where they change; fissile.toml among them. altered: by service."""

    files: dict[str, str]
    altered: set[str]


def web(command: str, more: str = "", **others: str) -> str:
    """fissile.toml with a program, and others by name."""
    tables = {WEB: f"command = {command!r}\n{more}", **{name: f"command = {one!r}\n" for name, one in others.items()}}
    return "\n".join(f"[services.{name}]\n{table}" for name, table in tables.items())


IGNORED = "node_modules/\n.env\n*.sqlite3\nuploads/\nvendor/\n"
NODE = {"fissile.toml": web("node index.js"), "index.js": "x\n", ".gitignore": IGNORED}
NPM = {
    "fissile.toml": web("npm start"),
    "package.json": '{"scripts": {"start": "node server.js"}}\n',
    "server.js": "x\n",
    "package-lock.json": "{}\n",
    ".gitignore": IGNORED,
}
MAKE = {"fissile.toml": web("make serve"), "Makefile": "serve:\n\truby server.rb\n", "server.rb": "x\n"}
SHELL = {"fissile.toml": web("sh run.sh"), "run.sh": "exec ./serve\n", "serve": "#!/bin/sh\n", "lib/common.sh": "x\n"}
SERVERS = web("node index.js", store="postgres -D data", other="redis-server --port 7001")
ASGI = {
    "fissile.toml": "[services.web]\nasgi = 'main:app'\n",
    "main.py": "app = 1\n",
    "parts/__init__.py": "",
    "parts/x.py": "x = 1\n",
    "templates/x.html": "x\n",
}
TWO = "[services.web]\ncommand = 'node x.js'\nfolder = 'a'\n[services.other]\ncommand = 'node x.js'\nfolder = 'b'\n"
EDIT = "<<a|b>>\n"

PROGRAMS: dict[str, Program] = {
    "the file that the command names": Program({**NODE, "index.js": EDIT}, {WEB}),
    "a file of the same kind": Program({**NODE, "lib/x.js": EDIT}, {WEB}),
    "a page beside the program": Program({**NODE, "index.html": EDIT}, {WEB}),
    "a page in a folder": Program({**NODE, "public/x.html": EDIT}, {WEB}),
    "a picture": Program({**NODE, "public/x.svg": EDIT}, {WEB}),
    "a file behind npm": Program({**NPM, "server.js": EDIT}, {WEB}),
    "a script of npm": Program({**NPM, "package.json": '{"scripts": {"start": "node <<server|other>>.js"}}\n'}, {WEB}),
    "a folder behind npm": Program({**NPM, "lib/x.js": EDIT}, {WEB}),
    "the lock of npm": Program({**NPM, "package-lock.json": '{"x": <<1|2>>}\n'}, {WEB}),
    "what the lock stands for": Program({**NPM, "node_modules/x/index.js": EDIT}, NOBODY),
    "a file behind make": Program({**MAKE, "server.rb": EDIT}, {WEB}),
    "the makefile": Program({**MAKE, "Makefile": "serve:\n\truby <<server|other>>.rb\n"}, {WEB}),
    "a file behind a shell": Program({**SHELL, "serve": "#!/bin/sh\n<<a|b>>\n"}, {WEB}),
    "the shell's own file": Program({**SHELL, "run.sh": "exec ./<<serve|other>>\n"}, {WEB}),
    "a file of a file behind a shell": Program({**SHELL, "lib/common.sh": EDIT}, {WEB}),
    "a file behind a program of another language": Program({"fissile.toml": web("go run ."), "main.go": "x\n", "x/x.go": EDIT}, {WEB}),
    "secrets that are ignored": Program({**NODE, ".env": EDIT}, NOBODY),
    "a database that is ignored": Program({**NODE, "x.sqlite3": EDIT}, NOBODY),
    "uploads that are ignored": Program({**NODE, "uploads/x.png": EDIT}, NOBODY),
    "a log": Program({**NODE, "x.log": EDIT}, NOBODY),
    "a file that is new": Program({**NODE, "lib/y.js": "<<(no file)|y>>"}, {WEB}),
    "a file that is gone": Program({**NODE, "lib/y.js": "<<y|(no file)>>"}, {WEB}),
    "what `code` names": Program({**NODE, "fissile.toml": web("node index.js", "code = ['**/*.js']\n"), "index.js": EDIT}, {WEB}),
    "what `code` does not name": Program({**NODE, "fissile.toml": web("node index.js", "code = ['**/*.js']\n"), "x.html": EDIT}, NOBODY),
    "no `code` at all": Program({**NODE, "fissile.toml": web("node index.js", "code = []\n"), "x.html": EDIT}, NOBODY),
    "a template beside servers of data": Program({"fissile.toml": SERVERS, "index.js": "x\n", "templates/x.html": EDIT}, {WEB}),
    "code beside servers of data": Program({"fissile.toml": SERVERS, "index.js": EDIT}, {WEB}),
    "a module beside servers of data": Program({"fissile.toml": SERVERS, "index.js": "x\n", "app.py": EDIT}, NOBODY),
    "the command": Program({**NODE, "fissile.toml": web("node <<index|./index>>.js")}, {WEB}),
    "its environment": Program({**NODE, "fissile.toml": web("node index.js", "environment = {X = '<<a|b>>'}\n")}, {WEB}),
    "its port": Program({**NODE, "fissile.toml": web("node index.js", "port = <<8101|8102>>\n")}, {WEB}),
    "the number of its replicas": Program({**NODE, "fissile.toml": web("node index.js", "replicas = <<1|2>>\n")}, NOBODY),
    "a comment in the settings": Program({**NODE, "fissile.toml": web("node index.js") + "# <<a|b>>\n"}, NOBODY),
    "the settings of the other": Program({"fissile.toml": web("node index.js", other="node <<x|y>>.js"), "index.js": "x\n"}, {OTHER}),
    "one of two folders": Program({"fissile.toml": TWO, "a/x.js": EDIT, "b/x.js": "x\n"}, {WEB}),
    "the other of two folders": Program({"fissile.toml": TWO, "a/x.js": "x\n", "b/lib/y.js": EDIT, "b/x.js": "x\n"}, {OTHER}),
    "a module of a Python program": Program({"fissile.toml": web("python worker.py"), "worker.py": "import parts\n", "parts.py": EDIT}, {WEB}),
    "a module by its name": Program({"fissile.toml": web("python -m jobs"), "jobs/__init__.py": "", "jobs/__main__.py": EDIT}, {WEB}),
    "a module of uvicorn": Program({"fissile.toml": web("uvicorn src.main:app"), "src/main.py": "from src import x\n", "src/x.py": EDIT}, {WEB}),
    "the module of an application that is mounted": Program({**ASGI, "main.py": "app = '<<a|b>>'\n"}, {WEB}),
    "another module of it": Program({**ASGI, "parts/x.py": "x = '<<a|b>>'\n"}, {WEB}),
    "a template of it": Program({**ASGI, "templates/x.html": EDIT}, {WEB}),
    "a style sheet of it": Program({**ASGI, "static/x.css": EDIT}, {WEB}),
    "the lock of Python": Program({**ASGI, "uv.lock": EDIT}, {WEB}),
    "a readme": Program({**NODE, "README.md": EDIT}, NOBODY),
}  # fmt: skip

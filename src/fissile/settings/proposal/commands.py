"""Reads a command line as a Procfile, a Compose file or a Dockerfile has it: which server it starts, with what.

A server of Python applications becomes its target, which `asgi` or `wsgi` serves. Anything else stays a program.
"""

import re
import shlex
from collections.abc import Sequence

import msgspec

from fissile.settings.proposal.applications import ASGI, WSGI

TARGET = re.compile(r"(?:asgi:|wsgi:)?(?P<module>[A-Za-z_]\w*(?:\.\w+)*):(?P<attribute>[A-Za-z_]\w*)(?P<call>\(.*\))?")
MODULE = re.compile(r"[A-Za-z_]\w*(?:\.\w+)*")
VARIABLE = re.compile(r"\$(?:\{[^}]*\}|\w+)")
ASSIGNMENT = re.compile(r"(?P<name>[A-Za-z_]\w*)=(?P<value>.*)", re.DOTALL)
# Programs that only run what follows them.
WRAPPERS = (
    ("poetry", "run"), ("pipenv", "run"), ("uv", "run"), ("pdm", "run"), ("hatch", "run"), ("rye", "run"),
    ("exec",), ("env",), ("tini", "--"), ("dumb-init", "--"), ("dumb-init",), ("newrelic-admin", "run-program"),
    ("ddtrace-run",), ("opentelemetry-instrument",),
)  # fmt: skip
PYTHON = re.compile(r"(?:.*/)?python(?:\d(?:\.\d+)?)?")
# What each server serves where its command line does not say, and the attribute that it takes by itself.
SERVERS = {
    "gunicorn": (WSGI, "application"),
    "uvicorn": (ASGI, ""),
    "hypercorn": (ASGI, "app"),
    "daphne": (ASGI, ""),
    "granian": (ASGI, "app"),
    "waitress-serve": (WSGI, ""),
    "waitress": (WSGI, ""),
    "uwsgi": (WSGI, "application"),
}
TARGET_OPTIONS = {"uwsgi": ("-w", "--module"), "waitress-serve": ("--app",)}
# Development servers of frameworks, which find the application by themselves.
DISCOVERING = {
    ("flask", "run"): "Flask", ("fastapi", "run"): "FastAPI", ("fastapi", "dev"): "FastAPI",
    ("litestar", "run"): "Litestar", ("quart", "run"): "Quart",
}  # fmt: skip
QUEUES = frozenset({"celery", "rq", "rqworker", "dramatiq", "huey_consumer", "huey_consumer.py", "arq", "taskiq"})
WORKS = frozenset({"qcluster", "rqworker", "runworker", "run_huey", "process_tasks", "db_worker"})
PREPARES = frozenset({"migrate", "collectstatic", "createcachetable", "loaddata", "upgrade", "db:migrate"})
PORT_OPTIONS = ("--port", "-p")
BIND_OPTIONS = ("--bind", "-b", "--listen", "--http", "--http-socket", "-l")
WORKER_OPTIONS = ("--workers", "-w", "--web-concurrency", "--processes")
PORT_LEAST_OF_USERS = 1024
REPLICAS_MAX = 64


class CommandLine(msgspec.Struct, frozen=True):
    """One command, understood as far as it can be.

    Attributes:
        text: The program as it is started, without what only wraps it.
        before: Commands that it runs first, such as a migration.
        server: The Python server that it starts, or "".
        kind: asgi or wsgi, where there is a server.
        target: "module:attribute", or "" where the server finds it by itself.
        factory: Whether the attribute is called first.
        framework: Whose development server it is, or "".
        port: Where it listens by its own words; 0: they do not say.
        replicas: How many worker processes it asks for; 0: it does not say.
        folder: Where it runs, or "".
        environment: Variables that it is started with.
        works: Whether it is a queue's worker or a scheduler, which listens nowhere.
        shell: Whether a shell has to read it, because of operators or variables.
    """

    text: str
    before: tuple[str, ...] = ()
    server: str = ""
    kind: str = ""
    target: str = ""
    factory: bool = False
    framework: str = ""
    port: int = 0
    replicas: int = 0
    folder: str = ""
    environment: tuple[tuple[str, str], ...] = ()
    works: bool = False
    shell: bool = False


def understand(line: str | Sequence[str]) -> CommandLine:
    """A command line, or its words, understood. What cannot be split into words stays a text for a shell."""
    text = line if isinstance(line, str) else shlex.join(line)
    try:
        words = shlex.split(text)
    except ValueError:
        return CommandLine(text, shell=True)
    words, environment = _bare(words)
    if len(words) >= 3 and words[0].rpartition("/")[2] in ("sh", "bash") and re.fullmatch(r"-\w*c", words[1]):
        inner = understand(words[2])
        return msgspec.structs.replace(inner, environment=(*environment, *inner.environment))
    parts = _chained(text)
    if len(parts) > 1:
        last = understand(parts[-1])
        return msgspec.structs.replace(last, before=(*parts[:-1], *last.before))
    operators = {";", "|", ">", "<", "&", "`", "(", ")"}
    if any(word in operators or word in ("||", ">>", "2>&1") for word in words) or text.rstrip().endswith("&"):
        return CommandLine(text, environment=environment, works=_works(words), shell=True)
    return _served(words, environment)


def _chained(text: str) -> list[str]:
    """Commands that run one after the other: `a && b`, `a; b`. Quoted operators divide nothing."""
    reader = shlex.shlex(text, posix=False, punctuation_chars="&;|")
    reader.whitespace_split = True
    parts: list[list[str]] = [[]]
    try:
        for word in reader:
            if word in ("&&", ";"):
                parts.append([])
            else:
                parts[-1].append(word)
    except ValueError:
        return [text]
    return [" ".join(part) for part in parts if part]


def _bare(words: list[str]) -> tuple[list[str], tuple[tuple[str, str], ...]]:
    """The words without what only wraps the program, and the variables that it is given."""
    environment: list[tuple[str, str]] = []
    while words:
        assigned = ASSIGNMENT.fullmatch(words[0])
        wrapper = next((one for one in WRAPPERS if tuple(words[: len(one)]) == one), None)
        if assigned is not None:
            environment.append((assigned["name"], assigned["value"]))
            words = words[1:]
        elif wrapper is not None and len(words) > len(wrapper):
            words = words[len(wrapper) :]
        else:
            break
    return words, tuple(environment)


def _served(words: list[str], environment: tuple[tuple[str, str], ...]) -> CommandLine:
    """A single program: a server of Python applications, a worker or anything else."""
    text = shlex.join(words) if not any(VARIABLE.search(word) for word in words) else " ".join(map(_quoted, words))
    shell = any(VARIABLE.search(word) for word in words)
    program, rest = _program(words)
    plain = CommandLine(
        text,
        port=_port(rest),
        environment=environment,
        folder=_option(rest, ("--chdir", "--app-dir")),
        works=_works(words),
        shell=shell,
    )
    # Options of the program itself may stand before the command, as in `flask --app shop run`.
    framework = next((DISCOVERING[program, word] for word in rest if (program, word) in DISCOVERING), None)
    if framework is not None:
        kind = WSGI if framework == "Flask" else ASGI
        named = TARGET.fullmatch(_option(rest, ("--app", "-A")))
        target = f"{named['module']}:{named['attribute']}" if named is not None else ""
        return msgspec.structs.replace(plain, server=f"{program} run", kind=kind, target=target, framework=framework)
    if program == "manage.py" and rest[:1] == ["runserver"]:
        port = next((_port_in(word) for word in rest[1:] if _port_in(word)), 0)
        return msgspec.structs.replace(plain, server="runserver", framework="Django", port=port)
    if program not in SERVERS:
        return plain
    kind, attribute = SERVERS[program]
    module, attribute, factory = _target(program, rest, attribute)
    if program == "gunicorn" and "vicorn" in _option(rest, ("-k", "--worker-class")):
        kind = ASGI
    if program == "granian" and _option(rest, ("--interface",)) == "wsgi":
        kind = WSGI
    workers = _option(rest, WORKER_OPTIONS) if program != "uwsgi" else _option(rest, ("-p", "--processes"))
    return msgspec.structs.replace(
        plain,
        server=program,
        kind=kind,
        target=f"{module}:{attribute}" if module and attribute else "",
        factory=factory or "--factory" in rest or "--call" in rest,
        replicas=int(workers) if workers.isdecimal() and 1 < int(workers) <= REPLICAS_MAX else 0,
    )


def _program(words: list[str]) -> tuple[str, list[str]]:
    """The name of what runs, and its own arguments: also behind `python -m`."""
    if not words:
        return "", []
    if PYTHON.fullmatch(words[0]):
        rest = [word for word in words[1:] if word not in ("-u", "-O", "-B")]
        if rest[:1] == ["-m"] and len(rest) > 1:
            return rest[1], rest[2:]
        return (rest[0].rpartition("/")[2], rest[1:]) if rest else ("python", [])
    return words[0].rpartition("/")[2], words[1:]


def _target(program: str, rest: list[str], attribute: str) -> tuple[str, str, bool]:
    """Module, attribute and whether that is called first; "" where the words name none."""
    named = _option(rest, TARGET_OPTIONS.get(program, ()))
    for word in [named] if named else rest:
        found = TARGET.fullmatch(word)
        if found is not None and found["module"] not in ("localhost", "unix"):
            return found["module"], found["attribute"], found["call"] is not None
    bare = [word for before, word in zip(["", *rest], rest, strict=False) if not before.startswith("-")]
    # Whatever follows an option may be its value: such words come last.
    for word in [named] if named else [*reversed(bare), *reversed(rest)]:
        if attribute and MODULE.fullmatch(word):
            return word, attribute, False
    return "", "", False


def _option(words: list[str], names: tuple[str, ...]) -> str:
    """The value of the first of these options that is there: `--port 80`, `--port=80`; "" where none is."""
    for number, word in enumerate(words):
        name, _, value = word.partition("=")
        if name in names:
            return value or (words[number + 1] if number + 1 < len(words) else "")
    return ""


def _port(rest: list[str]) -> int:
    return _port_in(_option(rest, PORT_OPTIONS)) or _port_in(_option(rest, BIND_OPTIONS))


def _port_in(text: str) -> int:
    """The port at the end of an address; 0 where there is none, as in `$PORT`."""
    found = re.search(r"(?:^|:)(\d{2,5})$", text)
    return int(found[1]) if found is not None and int(found[1]) <= 65535 else 0


def _works(words: list[str]) -> bool:
    program, rest = _program(words)
    return program in QUEUES or (program in ("manage.py", "flask") and bool(WORKS & {*rest[:1]}))


def prepares(text: str) -> bool:
    """Whether a command makes ready what the application needs, and ends: a migration and the like."""
    try:
        words = shlex.split(text)
    except ValueError:
        return False
    return bool(PREPARES & {*words})


def _quoted(word: str) -> str:
    """A word for a shell, in which variables stay variables."""
    if re.fullmatch(r"[\w@%+=:,./${}-]+", word):
        return word
    return '"' + re.sub(r'(["\\`])', r"\\\1", word) + '"'

"""What a command runs: its programs behind shells and wrappers, the files that it names, and whether it keeps data."""

import os
import re
import shlex
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from urllib.parse import unquote

import msgspec

SHEBANG_BYTES_MAX = 200
SCRIPT_BYTES_MAX = 64 * 1024
# A script that runs a script that runs a script.
DEPTH_MAX = 4
EXECUTABLE = 0o111
SHELLS = frozenset({"sh", "bash", "dash", "zsh", "ash", "ksh"})
# Programs that become another one, with how many words of their own they take beside options and numbers.
WRAPPERS = {
    **dict.fromkeys(("exec", "command", "env", "nice", "ionice", "nohup", "setsid", "stdbuf", "time", "numactl"), 0),
    **dict.fromkeys(("setpriv", "tini", "dumb-init", "catatonit", "timeout", "chrt", "prlimit"), 0),
    **dict.fromkeys(("gosu", "su-exec", "taskset", "chroot"), 1),
}
# Programs whose files are their data: the code of an application is nothing to them.
DATA_SERVERS = frozenset(
    {"postgres", "postmaster", "pg_ctl", "pg_ctlcluster", "pgbouncer", "redis-server", "redis-sentinel", "keydb-server"}
    | {"valkey-server", "valkey-sentinel", "dragonfly", "memcached", "mysqld", "mysqld_safe", "mariadbd"}
    | {"mariadbd-safe", "mongod", "mongos", "rabbitmq-server", "nats-server", "nats-streaming-server", "mosquitto"}
    | {"beanstalkd", "activemq", "kafka-server-start", "zookeeper-server-start", "pulsar", "nsqd", "minio", "weed"}
    | {"clickhouse", "clickhouse-server", "elasticsearch", "opensearch", "meilisearch", "qdrant", "milvus", "solr"}
    | {"typesense-server", "etcd", "consul", "cockroach", "cassandra", "scylla", "couchdb", "neo4j", "arangod"}
    | {"influxd", "questdb", "surreal", "rqlited", "ferretdb", "tigerbeetle", "victoria-metrics", "immudb"}
)
# Of a project that may be installed where it is.
PROJECTS = ("pyproject.toml", "setup.py", "setup.cfg")
# What runs a script of package.json.
NODE_RUNNERS = frozenset({"npm", "pnpm", "yarn", "bun"})
NODE_VERBS = frozenset({"run", "run-script"})
# Suffixes of what programs are written in, or made into for an interpreter.
SOURCES = frozenset(
    {".py", ".js", ".mjs", ".cjs", ".ts", ".mts", ".jsx", ".tsx", ".rb", ".php", ".pl", ".lua", ".sh", ".exs", ".ex"}
    | {
        ".go",
        ".rs",
        ".java",
        ".jar",
        ".war",
        ".kt",
        ".clj",
        ".scala",
        ".cs",
        ".dll",
        ".html",
        ".css",
        ".vue",
        ".svelte",
    }
)
# Variables with folders in which programs and their code are looked for.
SEARCHED = ("PATH", "PYTHONPATH", "NODE_PATH", "RUBYLIB", "PERL5LIB", "CLASSPATH")


class Folder(msgspec.Struct, frozen=True):
    """Where a package was installed from."""

    editable: bool = False


class Origin(msgspec.Struct, frozen=True):
    """What is read of a direct_url.json."""

    url: str = ""
    dir_info: Folder = Folder()


_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")
_VERSION = re.compile(r"[-.]?\d[\d.]*$")
_OPERATORS = frozenset("();<>|&\n")


class Package(msgspec.Struct):
    """What is read of a package.json."""

    scripts: dict[str, str] = {}


def segments(command: str) -> list[list[str]]:
    """The simple commands of a command, each as its words; those of an inner shell's `-c` in the place of it."""
    found: list[list[str]] = []
    for words in _split(command):
        words = _unwrapped(words)
        inner = _inner(words)
        found += segments(inner) if inner is not None else [words] if words else []
    return found


def _split(command: str) -> Iterator[list[str]]:
    """The words between a shell's operators; all of them where the quotation marks do not fit."""
    words: list[str] = []
    try:
        lexer = shlex.shlex(command, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        lexer.commenters = ""
        for word in lexer:
            if word and _OPERATORS.issuperset(word):
                yield words
                words = []
            else:
                words.append(word)
    except ValueError:
        words = command.split()
    yield words


def _unwrapped(words: list[str]) -> list[str]:
    """Without the variables before a program, and the programs that become it."""
    while words:
        own = WRAPPERS.get(os.path.basename(words[0]))
        if own is None and not _ASSIGNMENT.match(words[0]):
            break
        words = words[1:]
        while words and own is not None and (words[0][0:1] == "-" or words[0][0:1].isdigit() or own):
            if words[0][0:1] != "-" and not words[0][0:1].isdigit():
                own -= 1
            words = words[1:]
    return words


def _inner(words: list[str]) -> str | None:
    """What a shell is told to run by `-c`."""
    if not words or os.path.basename(words[0]) not in SHELLS:
        return None
    for number, word in enumerate(words[1:-1], 1):
        if not word.startswith("-"):
            return None
        if not word.startswith("--") and "c" in word:
            return words[number + 1]
    return None


def data_server(command: str, folder: Path) -> str:
    """The data server that a command becomes, by its name; "" for other programs.

    folder: where it runs. A script that it names is one, too, where its last command is.
    """
    return _data_server(command, folder, DEPTH_MAX)


def _data_server(command: str, folder: Path, depth: int) -> str:
    found = segments(command)
    if not found or not depth:
        return ""
    words = found[-1]
    name = os.path.basename(words[0])
    for one in (name, name.removesuffix(".sh"), _VERSION.sub("", name)):
        if one in DATA_SERVERS:
            return one
    script = words[1] if name in SHELLS and len(words) > 1 else words[0]
    return _data_server(last, folder, depth - 1) if (last := _last_line(folder / script)) else ""


def _last_line(script: Path) -> str:
    """The last command of a shell script, as text; "" where the file is none."""
    with suppress(OSError, UnicodeDecodeError):
        if script.suffix == ".sh" or _shebang(script) in SHELLS:
            with script.open(encoding="utf-8") as file:
                text = file.read(SCRIPT_BYTES_MAX).replace("\\\n", " ")
            lines = [line.strip() for line in text.splitlines()]
            return next((line for line in reversed(lines) if line and not line.startswith("#")), "")
    return ""


def _shebang(program: Path) -> str:
    """The interpreter that a file names in its first line; "" without one. Raises OSError."""
    with program.open("rb") as file:
        line = file.readline(SHEBANG_BYTES_MAX)
    words = line[2:].decode("utf-8", "replace").split() if line.startswith(b"#!") else []
    words = _unwrapped(words)
    return os.path.basename(words[0]) if words else ""


def named_files(command: str, folder: Path) -> Iterator[str]:
    """The words of a command that are files below a folder, which it runs in; of npm's scripts, too."""
    yield from dict.fromkeys(_named(command, folder, DEPTH_MAX))


def _named(command: str, folder: Path, depth: int) -> Iterator[str]:
    for words in segments(command) if depth else ():
        for word in words:
            path = os.path.normpath(os.path.relpath(word, folder) if os.path.isabs(word) else word)
            if not path.startswith("..") and (folder / path).is_file():
                yield path
        if os.path.basename(words[0]) in NODE_RUNNERS:
            yield from _named(_node_script(words, folder), folder, depth - 1)


def _node_script(words: list[str], folder: Path) -> str:
    """The command behind `npm start`, `npm run NAME` and the like; "" where package.json has none."""
    names = [word for word in words[1:] if not word.startswith("-") and word not in NODE_VERBS]
    with suppress(OSError, msgspec.DecodeError, UnicodeDecodeError):
        scripts = msgspec.json.decode((folder / "package.json").read_bytes(), type=Package).scripts
        return scripts.get(names[0], "") if names else ""
    return ""


def in_copy(folders: str, roots: Collection[Path], copy: Path) -> str:
    """A list of folders as in PATH, in which those within the application's folder (roots) are those of the copy of it.

    What is no code stays: in the copy stand links to it.
    """
    return os.pathsep.join(_in_copy(folder, roots, copy) for folder in folders.split(os.pathsep))


def _in_copy(folder: str, roots: Collection[Path], copy: Path) -> str:
    if not os.path.isabs(folder):
        return folder
    path = Path(os.path.normpath(folder))
    for root in roots:
        if path.is_relative_to(root):
            moved = copy / path.relative_to(root)
            if moved.is_dir() and moved.resolve().is_relative_to(copy.resolve()):
                return str(moved)
    return folder


def import_folders(home: Path, projects: Iterable[str] = ()) -> list[str]:
    """Where Python is to look for a project's own modules first, in the copy of it.

    Where the project itself is installed (`pip install -e`), they would be imported from the folder that is edited.
    projects: more of them, from the application's folder on, which are.
    """
    found = [home] if any((home / name).is_file() for name in PROJECTS) else []
    found += [home / project for project in projects if home / project not in found]
    folders = [folder for one in found for folder in (one / "src", one)]
    return [str(folder) for folder in folders if folder.is_dir() and folder.resolve().is_relative_to(home.resolve())]


def environments(command: str, folder: Path, root: Path, environment: Mapping[str, str]) -> Iterator[Path]:
    """The folders of installed packages that a command may import from. folder: where it runs."""
    programs = [Path(os.path.normpath(folder / words[0])) for words in segments(command) if "/" in words[0]]
    programs += [Path(one) / "python" for one in environment.get("PATH", os.defpath).split(os.pathsep)]
    active = environment.get("VIRTUAL_ENV")
    prefixes = [Path(sys.prefix), *(one.parent.parent for one in programs), *([Path(active)] if active else [])]
    for prefix in dict.fromkeys((*prefixes, root / ".venv", root / "venv")):
        if os.path.isfile(prefix / "pyvenv.cfg"):  # another user's folder on the PATH is none
            yield from sorted(prefix.glob("lib/python3*/site-packages"))


def editable(packages: Iterable[Path], roots: Collection[Path]) -> list[str]:
    """The projects within the application's folder (roots) that are installed where they are, from there on.

    packages: folders of installed packages.
    """
    found: dict[str, None] = {}
    for folder in dict.fromkeys(packages):
        with suppress(OSError):
            for place in _editable(str(folder), folder.stat().st_mtime_ns):
                path = Path(place)
                inside = next((path.relative_to(root) for root in roots if path.is_relative_to(root)), None)
                if inside is not None:
                    found[str(inside)] = None
    return list(found)


@cache
def _editable(folder: str, altered: int) -> tuple[str, ...]:
    """As direct_url.json says it (PEP 610). altered: when the folder was, by which it is asked again."""
    found: list[str] = []
    for file in sorted(Path(folder).glob("*.dist-info/direct_url.json")):
        with suppress(OSError, msgspec.DecodeError, msgspec.ValidationError):
            told = msgspec.json.decode(file.read_bytes(), type=Origin)
            if told.dir_info.editable:
                found.append(unquote(told.url.removeprefix("file://")))
    return tuple(found)

"""What one service alone may know stands in no other process: looked for from outside, byte by byte."""

import os
import signal
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from background import Up, background, wait_until
from commands import fissile

from fissile.journal.journal import Journal
from fissile.supervisor.service import Secrets

APPLICATION = """
import msgspec
from fissile import Application, component, method

class Safe(msgspec.Struct, frozen=True):
    written: str = ""
    given: str = ""

@component
class Vault:
    def __init__(self, config: Safe) -> None:
        self.config = config

    async def start(self) -> None:
        assert self.config.written.startswith("written"), self.config
        assert self.config.given.startswith("given"), self.config

    async def size(self) -> int:
        return len(self.config.given)

@component
class Leaf:
    async def twice(self, number: int) -> int:
        return 2 * number

@component
class Twig:
    async def same(self, number: int) -> int:
        return number

app = Application(Vault, Leaf, Twig, name="safe")
"""
TOOL = """
import http.server, os
assert os.environ["TOOL_SECRET"].startswith("tool")
http.server.HTTPServer(("127.0.0.1", int(os.environ["PORT"])), http.server.SimpleHTTPRequestHandler).serve_forever()
"""
FILE = """
app = "safe:app"
[components.Vault]
written = "{written}"
[services.twig]
spawn = true
[services.tool]
command = "{python} tool.py"
environment = {{ TOOL_SECRET = "{tool}" }}
"""


class Needles:
    """What is looked for, by the service that may have it ("": none)."""

    def __init__(self) -> None:
        self.written, self.given, self.tool = (
            f"{name}-{os.urandom(12).hex()}" for name in ("written", "given", "tool")
        )

    def of(self, folder: Path) -> dict[str, set[bytes]]:
        copy = folder / "copy.db"
        with (
            closing(sqlite3.connect(f"file:{folder}/.fissile/journal.db?mode=ro", uri=True)) as kept,
            closing(sqlite3.connect(copy)) as other,
        ):
            kept.backup(other)
        journal = Journal(copy)
        journal.open()
        row = journal.kept("secrets")
        journal.close()
        copy.unlink()
        assert row is not None
        tokens = msgspec.msgpack.decode(row, type=Secrets)
        found = {"": {tokens.operator, tokens.api, tokens.gateway}, "vault": {self.written, self.given}}
        found["tool"] = {self.tool}
        for service in tokens.services:
            found.setdefault(service, set()).update({tokens.services[service], tokens.control[service]})
        return {service: {one.encode() for one in some} for service, some in found.items()}


def memory(pid: int) -> Iterator[bytes]:
    """All that a process could read of itself: what it can write to, and its environment."""
    for file in ("environ", "cmdline"):
        yield Path(f"/proc/{pid}/{file}").read_bytes()
    with open(f"/proc/{pid}/mem", "rb") as mem:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            begin, end = (int(part, 16) for part in line.split()[0].split("-"))
            if "rw" in line.split()[1]:
                mem.seek(begin)
                try:
                    yield mem.read(end - begin)
                except OSError:
                    continue


def holds(pid: int, needles: set[bytes]) -> set[bytes]:
    return {needle for part in memory(pid) for needle in needles if needle in part}


@pytest.fixture
def needles(monkeypatch: pytest.MonkeyPatch) -> Needles:
    found = Needles()
    monkeypatch.setenv("FISSILE_VAULT_GIVEN", found.given)
    return found


@pytest.fixture
def app(tmp_path: Path, needles: Needles) -> Iterator[Up]:
    (tmp_path / "safe.py").write_text(APPLICATION)
    (tmp_path / "tool.py").write_text(TOOL)
    text = FILE.format(written=needles.written, tool=needles.tool, python=sys.executable)
    (tmp_path / "fissile.toml").write_text(text)
    with background(tmp_path) as app:
        yield app
        app.down()


def zygotes(app: Up) -> list[int]:
    """All that live, by what the kernel shows of them."""
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if b"fissile.machine.zygote.server" in line:
                found.append(int(entry.name))
    return [pid for pid in found if str(app.folder) in _open_files(pid)]


def _open_files(pid: int) -> str:
    return "\n".join(os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd"))


def check(app: Up, needles: Needles) -> None:
    """Nobody has what is another's, and everybody has its own."""
    kept = needles.of(app.folder)
    everything = {one for some in kept.values() for one in some}
    for service in ("vault", "leaf", "twig", "tool"):
        (pid,) = app.pids(service)
        found = holds(pid, everything)
        assert found <= kept[service], (service, found - kept[service])
        assert found, f"{service} has not even its own: the search finds nothing"
    parents = zygotes(app)
    assert app.status()["supervisor"]["zygote"] in parents
    environment = Path(f"/proc/{app.supervisor()}/environ").read_bytes()
    assert b"\0PATH=" in b"\0" + environment
    assert not [one for one in everything if one in environment]
    for pid in parents:
        assert not holds(pid, everything), Path(f"/proc/{pid}/cmdline").read_bytes()


def test_secrets_of_others_are_in_no_process(app: Up, needles: Needles):
    app.up()
    check(app, needles)
    for service in ("leaf", "twig", "tool", "vault"):
        assert fissile("restart", service, "--path", app.folder).returncode == 0
    check(app, needles)
    (app.folder / "safe.py").write_text(
        APPLICATION.replace("2 * number", "number * 2").replace("return len(", "return 1 + len(")
    )
    result = fissile("deploy", app.folder, "--wait")
    assert result.returncode == 0, result
    check(app, needles)
    supervisor = app.supervisor()
    app.kill(supervisor)
    app.up()
    check(app, needles)
    assert fissile("restart", "leaf", "--path", app.folder).returncode == 0
    check(app, needles)
    zygote = app.status()["supervisor"]["zygote"]
    os.kill(zygote, signal.SIGKILL)
    (leaf,) = app.pids("leaf")
    os.kill(leaf, signal.SIGKILL)
    wait_until(lambda: app.pids("leaf") not in ([], [leaf]) and len(app.pids("vault")) == 1, "another leaf")
    wait_until(lambda: app.status()["supervisor"]["zygote"] not in (0, zygote), "another zygote")
    check(app, needles)


def test_what_is_shown_to_people_holds_no_secret(app: Up, needles: Needles):
    app.up()
    kept = {one for some in needles.of(app.folder).values() for one in some}
    shown = ""
    for command in (("status", "--json"), ("history", "--json", "--path"), ("logs", "--path"), ("releases", "--json")):
        result = fissile(*command, app.folder)
        assert result.returncode == 0, result
        shown += result.stdout
    assert "vault" in shown
    assert not [one for one in kept if one.decode() in shown]


def may_be_passed(path: Path, state: Path, root: Path) -> bool:
    """Whether others may pass it, or read it, where root runs a program: code, that they may read in the folder."""
    inside = path.relative_to(state).parts
    if os.getuid() != 0 or (inside and inside[0] != "code"):
        return False
    if path.is_dir():
        return path.stat().st_mode & 0o022 == 0
    own = root.joinpath(*inside[3:])
    return path.stat().st_mode & 0o022 == 0 and own.stat().st_mode & 0o004 != 0 and path.name != "fissile.toml"


def test_all_that_is_written_is_the_owners_alone(app: Up, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    (app.folder / "tool.py").chmod(0o755)
    (app.folder / "package").mkdir()
    (app.folder / "package" / "__init__.py").write_text("")
    (app.folder / "safe.py").write_text("import package\n" + APPLICATION)
    before = os.umask(0)
    try:
        app.up()
        assert fissile("restart", "leaf", "--path", app.folder).returncode == 0
    finally:
        os.umask(before)
    state = app.folder / ".fissile"
    assert list((state / "output").glob("*.spool"))
    open_to_others = {
        path.relative_to(state).as_posix(): f"{path.lstat().st_mode:o}"
        for path in [state, *state.rglob("*")]
        if not path.is_symlink() and path.lstat().st_mode & 0o077 and not may_be_passed(path, state, app.folder)
    }
    assert not open_to_others
    assert list(state.rglob("__pycache__/*.pyc"))
    copies = [path.stat().st_mode & 0o777 for path in state.glob("code/*/*/safe.py")]
    assert copies == [0o644 if os.getuid() == 0 else 0o600]
    assert [path.stat().st_mode & 0o777 for path in state.glob("code/*/*/tool.py")] == [
        0o755 if os.getuid() == 0 else 0o700
    ]

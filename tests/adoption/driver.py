"""An application as its team has it, driven from the outside; and what has to hold after each step.

What a person may change is of one of three kinds, and each kind becomes visible by its own steps alone (`SHOWN_BY`).
The model follows the steps by that table. After each step every page is asked for. It has to show what the model says,
byte for byte what it showed when the model said so before; what `fissile releases` calls live has to be the release
that showed it first. Whatever was written has to be there still.
"""

import enum
import http.client
import itertools
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fissile.api.client import Client
from fissile.machine.leftover_processes import left_anywhere
from fissile.machine.procfs import application_of, born, everyone

APPS = Path(__file__).parent / "apps"
FISSILE = [sys.executable, "-m", "fissile"]
HOST = "127.0.0.1"
WAIT_SECONDS_MAX = 60.0
# What outlives `down` in .fissile: what happened, what it said, and the releases with their code.
KEPT = {".gitignore", "journal.db", "logs", "code", "releases"}


class Kind(enum.Enum):
    """Of what a person edits."""

    RELEASE = "code, templates, static files, settings: a part of the release"
    DATA = "files that the application reads whenever it is asked"
    START = ".env and the like: the application's own, read when a process starts"


class Step(enum.Enum):
    """What may happen."""

    EDIT = "edit"
    DEPLOY = "deploy"
    RESTART = "restart"
    ROLLBACK = "rollback"
    KILL = "kill -9 of a process"
    CUT = "power cut"
    STOP = "down and up"


# By which steps the new text becomes visible. A rollback returns what belongs to a release, and nothing else.
SHOWN_BY = {
    Kind.RELEASE: {Step.DEPLOY, Step.STOP},
    Kind.DATA: {Step.EDIT},
    Kind.START: {Step.RESTART, Step.STOP},
}


@dataclass(frozen=True)
class Page:
    """What is asked for. service: "" for the one that the application is about. ask: (address, path) to an answer."""

    path: str
    service: str = ""
    ask: Callable[[str, str], bytes] = field(default=lambda address, path: get(address, path))


@dataclass(frozen=True)
class Edit:
    """One text for another, in one file or several; `shows`: what a page shows before and after, if it is another text.

    before: a command that is run in the folder before the deploy, as by a person. anew: the services that the deploy
    starts anew.
    """

    name: str
    kind: Kind
    changes: Mapping[str, tuple[str, str]]
    page: Page | None = None
    shows: tuple[str, str] | None = None
    before: Sequence[str] = ()
    anew: Sequence[str] = ()
    added: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def texts(self) -> tuple[str, str]:
        """What the page shows before and after."""
        return self.shows or next(iter(self.changes.values()))


@dataclass(frozen=True)
class App:
    """An application. service: the one that is killed and restarted. data: what it may leave there.

    write: have it keep a word. read: the words that it has kept, in order. unbroken: a deploy refuses nobody.
    page_port: its address is chosen by `up --port`. prepare: a command after the first `up`. recovers: it has a
    database that listens before it has recovered from a power cut.
    """

    name: str
    service: str
    edits: Sequence[Edit]
    write: "Callable[[Driven, str], None]"
    read: "Callable[[Driven], list[str]]"
    data: Sequence[str]
    unbroken: bool = False
    page_port: bool = False
    recovers: bool = False
    prepare: Sequence[str] = ()
    set_up: "Callable[[Path], None]" = lambda folder: None
    git: bool = True
    needs: Sequence[str] = ()


class Driven:
    """One application in a folder of its own, and what is expected of it."""

    def __init__(self, app: App, folder: Path) -> None:
        self.app, self.folder = app, folder
        self.edits = {edit.name: edit for edit in app.edits}
        self.pages = list(dict.fromkeys(edit.page for edit in app.edits if edit.page is not None))
        _lay(app, folder)
        self.ports = _free_ports(folder / "fissile.toml")
        self.page_port = free_port() if app.page_port else 0
        self.beginning = files_in(folder)
        self.words: list[str] = []
        self.dice = random.Random()
        # Which edits are in the folder, and which are visible.
        self.edited: set[str] = set()
        self.shown: set[str] = set()
        self.history: list[frozenset[str]] = []
        self._names: dict[frozenset[str], str] = {}
        self._answers: dict[tuple[frozenset[str], Page], bytes] = {}
        self._numbers = itertools.count(1)

    # What is done.

    def fissile(self, *arguments: str, code: int = 0) -> str:
        """A command, in the application's folder."""
        return self.command([*FISSILE, *arguments], code=code)

    def command(self, words: Sequence[str], code: int = 0) -> str:
        """A command as a person types it; what it printed."""
        words = [sys.executable if word == "python" else word for word in words]
        done = subprocess.run(
            words, cwd=self.folder, env=self.environment(), capture_output=True, text=True, timeout=120
        )
        assert done.returncode == code, f"{words}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def environment(self) -> dict[str, str]:
        """Of commands: the environment with Python's programs first, as where it is activated."""
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        ports = {f"{name}_PORT".upper(): str(port) for name, port in self.ports.items()}
        return os.environ | ports | {"PATH": path, "PYTHONDONTWRITEBYTECODE": "1"}

    def up(self) -> None:
        """Start it for the first time."""
        self._start()
        if self.app.prepare:
            self.command(self.app.prepare)
        self._deployed()
        self.check()

    def _start(self) -> None:
        self.fissile("up", *(["--port", str(self.page_port)] if self.page_port else []))

    def edit(self, name: str) -> None:
        """Change the folder, there or back."""
        edit, back = self.edits[name], name in self.edited
        for file, (old, new) in edit.changes.items():
            path = self.folder / file
            text = path.read_text()
            old, new = (new, old) if back else (old, new)
            assert text.count(old) == 1, f"{file}: {old!r} is there {text.count(old)} times"
            path.write_text(text.replace(old, new))
        for file, text in edit.added.items():
            path = self.folder / file
            path.unlink() if back else path.write_text(text)
        if edit.before and not back:
            self.command(edit.before)
        self.edited ^= {name}
        self._see(Step.EDIT)

    def deploy(self) -> None:
        """Deploy what is in the folder; nothing to do where it holds the release that serves."""
        before = self.pids()
        wanted = self._release_of(self.edited)
        nothing = wanted == self._release_of(self.shown)
        found = json.loads(self.fissile("deploy", "--wait", "--json"))
        assert (found["rollout"] is None) == nothing, (wanted, found["difference"])
        if nothing:
            assert self.pids() == before
        else:
            anew = {service for name in self.edited ^ self.shown for service in self._anew(name)}
            after = self.pids()
            assert {name for name in before if after[name] != before[name]} == anew, found["difference"]["changes"]
        self._see(Step.DEPLOY)
        if not nothing:
            self._deployed()
        self.check()

    def _anew(self, name: str) -> Sequence[str]:
        edit = self.edits[name]
        return (edit.anew or (self.app.service,)) if edit.kind is Kind.RELEASE else ()

    def restart(self) -> None:
        """Start the service anew."""
        before = self.pids()[self.app.service]
        self.fissile("restart", self.app.service)
        assert not set(before) & set(self.pids()[self.app.service])
        self._see(Step.RESTART)
        self.check()

    def rollback(self) -> None:
        """Back to the release before."""
        self.history.pop()
        self.fissile("rollback", "--wait")
        self._see(Step.ROLLBACK)
        self.check()

    def kill(self) -> None:
        """kill -9 of each process of the service; others take their places."""
        before = self.pids()[self.app.service]
        for pid in before:
            os.kill(pid, signal.SIGKILL)

        def is_back() -> bool:
            ready = self.ready()
            return len(ready) == len(before) and not set(ready) & set(before)

        self.wait(is_back, "it is back")
        self.check()

    def orphan(self) -> None:
        """kill -9 of the supervisor: what runs serves on, and is taken over by the next `up`."""
        before = self.pids()
        self._end(*self._supervision()[:1])
        for page in self.pages:
            self.ask(page)
        self.fissile("up")
        assert self.pids() == before
        self.check()

    def behead(self) -> None:
        """kill -9 of the supervisor, of the zygote, or of both; and of a service, at the same time."""
        before = self.pids()
        supervisor, zygote = self._supervision()
        chosen = self.dice.choice([[supervisor], [zygote], [supervisor, zygote]])
        lost = self.dice.choice(sorted(before))
        self._end(*chosen, *before[lost])
        if supervisor in chosen:
            self.fissile("up")
        self._wait_for_others(before, lost)
        self.check()

    def lose(self) -> None:
        """kill -9 of each process of any service, data servers among them."""
        before = self.pids()
        lost = self.dice.choice(sorted(before))
        self._end(*before[lost])
        self._wait_for_others(before, lost)
        self.check()

    def _end(self, *pids: int) -> None:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        for pid in pids:
            self.wait(lambda pid=pid: not _lives(pid), f"{pid} has ended")

    def _supervision(self) -> tuple[int, int]:
        found = Client(self.folder).status().supervisor
        assert found.zygote is not None
        return found.pid, found.zygote

    def _wait_for_others(self, before: dict[str, list[int]], lost: str) -> None:
        def is_back() -> bool:
            now = self.pids()
            all_there = all(len(now.get(name, ())) == len(pids) for name, pids in before.items())
            return all_there and not set(now[lost]) & set(before[lost])

        self.wait(is_back, f"{lost} is back")
        if self.app.recovers or lost != self.app.service:
            self.wait(self._is_answered, "it has recovered")

    def interrupt(self) -> None:
        """`down`, and `up` with Ctrl-C at any instant: either it is up, or nothing of it is there."""
        self.down()
        up = subprocess.Popen(
            [*FISSILE, "up", *(["--port", str(self.page_port)] if self.page_port else [])],
            cwd=self.folder,
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        time.sleep(self.dice.uniform(0.0, 2.5))
        up.send_signal(signal.SIGINT)
        said, _ = up.communicate(timeout=60)
        assert up.returncode in (0, 130, -signal.SIGINT), said
        if up.returncode:
            self._nothing_is_left()
            self._start()
        self._see(Step.STOP)
        self._deployed()
        if self.app.recovers:
            self.wait(self._is_answered, "it has recovered")
        self.check()

    def abandon(self) -> None:
        """`down` at any instant of a deploy, and `up` with what the folder holds now."""
        deploy = subprocess.Popen(
            [*FISSILE, "deploy"],
            cwd=self.folder,
            env=self.environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(self.dice.uniform(0.0, 2.5))
        self.down()
        deploy.wait(60)
        self._nothing_is_left()
        # Whether its release became one that can be gone back to depends on the instant.
        self.history.clear()
        self._start()
        self._see(Step.STOP)
        self._deployed()
        self.check()

    def cut(self) -> None:
        """kill -9 of everything, and `up`."""
        end_all(self.folder)
        self.fissile("up")
        if self.app.recovers:
            self.wait(self._is_answered, "it has recovered")
        self.check()

    def _is_answered(self) -> bool:
        try:
            self.app.read(self)
        except AssertionError:
            return False
        return True

    def stop(self) -> None:
        """`down`, with nothing left, and `up` with what the folder holds now."""
        self.down()
        self._start()
        self._see(Step.STOP)
        self._deployed()
        self.check()

    def write(self) -> None:
        """Have it keep one word more."""
        self.words.append(f"word{next(self._numbers)}")
        self.app.write(self, self.words[-1])

    def down(self) -> None:
        """`down`, and nothing is left."""
        self.fissile("down")
        self._nothing_is_left()

    def _nothing_is_left(self) -> None:
        assert left_anywhere(application_of(self.folder)) == []
        assert about(self.folder) == []
        left = {entry.name for entry in (self.folder / ".fissile").iterdir()} - KEPT
        assert not left, left
        for port in (*self.ports.values(), *([self.page_port] if self.page_port else [])):
            with socket.socket() as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.bind((HOST, port))
        added = {file for edit in self.app.edits for file in edit.added}
        left = [p for p in files_in(self.folder) - self.beginning - added if not self._is_data(p)]
        assert not left
        assert not [path for path in files_in(self.folder) if (self.folder / path).is_symlink()]

    def _is_data(self, path: str) -> bool:
        return any(Path(path).match(one) or path.startswith(f"{one}/") for one in self.app.data)

    # What is expected.

    def _see(self, step: Step) -> None:
        """The one table of what becomes visible by which step."""
        for name, edit in self.edits.items():
            if step is Step.ROLLBACK and edit.kind is Kind.RELEASE:
                visible = name in self.history[-1]
            elif step in SHOWN_BY[edit.kind]:
                visible = name in self.edited
            else:
                continue
            (self.shown.add if visible else self.shown.discard)(name)

    def _release_of(self, names: set[str]) -> frozenset[str]:
        return frozenset(name for name in names if self.edits[name].kind is Kind.RELEASE)

    def _deployed(self) -> None:
        state = self._release_of(self.shown)
        if self.history[-1:] != [state]:
            self.history.append(state)

    def check(self) -> None:
        """All that has to hold after each step."""
        shown = frozenset(self.shown)
        name = self.live()
        state = self._release_of(self.shown)
        assert self._names.setdefault(state, name) == name, f"another release serves: {sorted(state)}"
        assert list(self._names.values()).count(name) == 1, f"{name} is the name of two releases"
        for page in self.pages:
            answer = self.ask(page)
            for edit in self.edits.values():
                if edit.page == page:
                    old, new = edit.texts
                    wanted, other = (new, old) if edit.name in shown else (old, new)
                    text = answer.decode()
                    assert wanted in text, f"{edit.name}: {page.path} does not show {wanted!r}: {text}"
                    assert other in wanted or other not in text, f"{edit.name}: {page.path} shows {other!r}: {text}"
            known = self._answers.setdefault((shown, page), answer)
            assert answer == known, f"{page.path} is another than it was"
        assert self.app.read(self) == self.words

    def ask(self, page: Page) -> bytes:
        """What a page says."""
        return page.ask(self.address(page.service), page.path)

    def address(self, service: str = "") -> str:
        """Host and port of a service: people know no other."""
        service = service or self.app.service
        return f"{HOST}:{self.ports.get(service, self.page_port)}"

    def live(self) -> str:
        """The release that serves, by `releases` and by `status`."""
        (live,) = [one.name for one in Client(self.folder).releases() if one.state == "live"]
        assert Client(self.folder).status().release == live
        return str(live)

    def pids(self) -> dict[str, list[int]]:
        """The processes of each service that are ready."""
        services = Client(self.folder).status().services
        return {one.name: sorted(r.pid for r in one.replicas if r.state == "ready") for one in services}

    def ready(self) -> list[int]:
        """Those of the service that the application is about."""
        return self.pids()[self.app.service]

    def wait(self, condition: Callable[[], Any], what: str) -> None:
        """Until something holds."""
        limit = time.monotonic() + WAIT_SECONDS_MAX
        while not condition():
            assert time.monotonic() < limit, f"waited in vain: {what}; {self.pids()}"
            time.sleep(0.02)

    @contextmanager
    def asked_all_the_time(self) -> Iterator[None]:
        """Somebody asks for a page again and again, and is always answered."""
        over, failed, count = threading.Event(), list[str](), 0
        page = self.pages[0]

        def visit() -> None:
            nonlocal count
            while not over.is_set():
                try:
                    self.ask(page)
                    count += 1
                except (OSError, http.client.HTTPException, AssertionError) as error:
                    failed.append(repr(error))
                over.wait(0.01)

        thread = threading.Thread(target=visit)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
        assert count
        assert not failed


def tour(driven: Driven) -> None:
    """Every edit is deployed, one after the other; a crash, all the rollbacks, a power cut, and all at once again."""
    app = driven.app
    driven.up()
    driven.write()
    driven.check()
    for edit in app.edits:
        _there(driven, edit)
    driven.kill()
    driven.write()
    while len(driven.history) > 1:
        _under_load(driven, driven.rollback)
    driven.kill()
    driven.cut()
    driven.write()
    _under_load(driven, driven.deploy)
    driven.stop()
    driven.down()


def _there(driven: Driven, edit: Edit) -> None:
    driven.edit(edit.name)
    driven.check()
    _under_load(driven, driven.deploy)
    if edit.kind is Kind.START:
        driven.restart()
    driven.write()


def _under_load(driven: Driven, step: Callable[[], None]) -> None:
    if not driven.app.unbroken:
        step()
        return
    with driven.asked_all_the_time():
        step()


def get(address: str, path: str) -> bytes:
    """The body of a page, by a connection of its own."""
    return ask(address, "GET", path)


def ask(
    address: str, verb: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
) -> bytes:
    """The body of an answer below 400."""
    connection = http.client.HTTPConnection(address, timeout=20)
    try:
        connection.request(verb, path, body, dict(headers or {}))
        answer = connection.getresponse()
        found = answer.read()
        assert answer.status < 400, f"{verb} {path}: {answer.status} {found[:500]!r}"
        return found
    finally:
        connection.close()


@contextmanager
def driven(app: App, folder: Path) -> Iterator[Driven]:
    """An application in a folder, and nothing of it afterwards."""
    made = Driven(app, folder / app.name)
    try:
        yield made
    finally:
        subprocess.run([*FISSILE, "down"], cwd=made.folder, capture_output=True)
        end_all(made.folder)


def _lay(app: App, folder: Path) -> None:
    """What the team has in its folder: names with a dot are spelled out here, lest this repository obeys them."""
    shutil.copytree(APPS / app.name, folder, ignore=shutil.ignore_patterns("__pycache__"))
    for path in sorted(folder.rglob("dot-*")):
        path.rename(path.with_name(path.name.replace("dot-", ".", 1)))
    folder.chmod(0o755)
    app.set_up(folder)
    if app.git:
        subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
        subprocess.run(["git", "add", "-A"], cwd=folder, check=True)


def _free_ports(settings: Path) -> dict[str, int]:
    """Ports of services that nobody has, in place of those that the settings name wherever they do."""
    text, found = settings.read_text(), dict[str, int]()
    for service, port in re.findall(r"\[services\.(\w+)\]\n(?:[^\[\n].*\n)*?port = (\d+)", text):
        found[service] = free_port()
        text = text.replace(port, str(found[service]))
    settings.write_text(text)
    return found


def free_port() -> int:
    """A port that nobody has."""
    with socket.socket() as sock:
        sock.bind((HOST, 0))
        return int(sock.getsockname()[1])


def files_in(folder: Path) -> set[str]:
    """The files of an application, by path; not what its tools keep."""
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if (path.is_file() or path.is_symlink()) and path.relative_to(folder).parts[0] not in (".fissile", ".git")
    }


def about(folder: Path) -> list[int]:
    """A walk of /proc: who runs in a folder, or has it in its arguments."""
    found: list[int] = []
    for pid in everyone():
        with suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_bytes()
            if pid != os.getpid() and (
                str(folder).encode() in words or _is_in(os.readlink(f"/proc/{pid}/cwd"), folder)
            ):
                found.append(pid)
    return found


def _is_in(path: str, folder: Path) -> bool:
    return Path(path.removesuffix(" (deleted)")).is_relative_to(folder)


def end_all(folder: Path) -> None:
    """kill -9 of all that runs of an application."""
    limit = time.monotonic() + WAIT_SECONDS_MAX
    killed: set[int] = set()
    while found := {*left_anywhere(application_of(folder)), *_supervisors(folder)}:
        assert time.monotonic() < limit, found
        killed |= found
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)
    # A power cut leaves no zombies either, which PostgreSQL would take for a server that runs.
    while left := {pid for pid in killed if Path(f"/proc/{pid}").exists()}:
        assert time.monotonic() < limit, left
        time.sleep(0.01)


def _lives(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


def _supervisors(folder: Path) -> list[int]:
    with suppress(OSError, ValueError):
        found = json.loads((folder / ".fissile" / "endpoints.json").read_bytes())
        return [pid for pid in (found["pid"], found.get("zygote")) if pid and born(pid) and pid in about(folder)]
    return []

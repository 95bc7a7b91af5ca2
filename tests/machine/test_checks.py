"""What the doctor says: each rule by facts that make it fail, and the gathering on this machine."""

import fcntl
import os
import socket
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fissile.machine.checks import gather as gathering
from fissile.machine.checks.facts import Facts, Port, PortState, State, Wants
from fissile.machine.checks.gather import control_groups, gather, optimized, tried, try_port
from fissile.machine.checks.rules import RULES, examine

GOOD = Facts(
    packages=dict.fromkeys(("fissile", "uvloop", "websockets", "a2wsgi"), "1.0"),
    controllers=("memory", "cpu", "pids", "io"),
    folder="/srv/shop/.fissile",
    free_bytes=10 * 1024**3,
    free_files=100_000,
    now=2e9,
    file="fissile.toml",
    ports=(Port(8000, "web", PortState.FREE), Port(8001, "api", PortState.OURS)),
)
MIB = 1024**2
OK, WARNING, FAULT = State.OK, State.WARNING, State.FAULT
CASES: list[tuple[str, dict[str, Any], State, str]] = [
    ("settings", {"mistakes": "fissile.toml has mistakes"}, FAULT, "nothing can be started"),
    ("python", {"python": (3, 10, 1)}, FAULT, "3.11 or newer"),
    ("python", {"implementation": "PyPy"}, FAULT, "CPython"),
    ("python", {"optimized": False}, WARNING, "slower"),
    ("kernel", {"system": "Darwin"}, FAULT, "use Linux"),
    ("kernel", {"kernel": "4.19.0-27-amd64"}, FAULT, "5.4 or newer"),
    ("uvloop", {"packages": {}}, FAULT, "do not start"),
    ("websockets", {"packages": {"uvloop": "1"}}, WARNING, "pip install websockets"),
    ("a2wsgi", {"packages": {}, "wants": Wants(wsgi=("site",))}, FAULT, "site"),
    ("control groups", {"cgroup": 0}, WARNING, "mount cgroup2"),
    ("control groups", {"delegated": False, "wants": Wants(limits=("web",))}, WARNING, "limits (web) of memory"),
    ("control groups", {"controllers": ("memory",)}, WARNING, "not held by the kernel"),
    ("landlock", {"landlock": 3}, WARNING, "signals"),
    ("landlock", {"landlock": 0}, WARNING, "cannot be used"),
    ("landlock", {"landlock": 0, "wants": Wants(confined=("web",))}, FAULT, "refused: web"),
    ("seccomp", {"seccomp": False}, WARNING, "not held"),
    ("seccomp", {"seccomp": False, "wants": Wants(confined=("web",))}, FAULT, "not held"),
    ("user", {"wants": Wants(user=("web",))}, FAULT, "do not start: web"),
    ("port 8000", {"ports": (Port(8000, "web", PortState.TAKEN),)}, FAULT, "web cannot be started"),
    (
        "port 80",
        {"ports": (Port(80, "web", PortState.DENIED, "Permission denied"),)},
        FAULT,
        "unprivileged_port_start=80",
    ),
    ("port 8000", {"ports": (Port(8000, "web", PortState.DENIED, "?"),)}, FAULT, "name another port"),
    ("open files", {"files": 100}, FAULT, "LimitNOFILE="),
    ("open files", {"files": 1024}, WARNING, "about 924 connections"),
    ("processes", {"tasks": 900, "tasks_most": 1000}, WARNING, "LimitNPROC="),
    ("inotify", {"watches": 100}, WARNING, "max_user_watches"),
    ("inotify", {"instances": 8}, WARNING, "max_user_instances"),
    ("state folder", {"trouble": "files cannot be locked: No locks available"}, FAULT, "local file system"),
    ("state folder", {"executable": False}, WARNING, "noexec"),
    ("disk", {"free_bytes": 10 * MIB}, FAULT, "make room"),
    ("disk", {"free_bytes": 500 * MIB}, WARNING, "make room"),
    ("disk", {"free_files": 10}, WARNING, "remove files"),
    ("time zones", {"zones": False}, WARNING, "tzdata"),
    ("clock", {"now": 0.0}, WARNING, "timedatectl"),
    ("clock", {"synchronized": False}, WARNING, "NTP"),
]
WELL: list[dict[str, Any]] = [
    {},
    {"file": "", "ports": ()},
    {"optimized": None, "synchronized": None},
    {"root": True, "wants": Wants(user=("web",), wsgi=("web",), confined=("web",))},
    {"free_bytes": -1, "free_files": -1, "tasks_most": -1, "files": -1},
    {"cgroup": 1, "controllers": ("memory", "cpu", "cpuacct", "pids")},
    {"packages": {**GOOD.packages, "a2wsgi": "", "fissile": ""}},
]


@pytest.mark.parametrize("found", WELL, ids=lambda found: " ".join(found) or "good")
def test_a_good_machine_has_nothing_to_be_said_of(found: dict[str, Any]):
    checks = examine(msgspec.structs.replace(GOOD, **found))
    assert [one for one in checks if one.state is not OK or one.consequence or one.remedy] == []
    assert len({one.name for one in checks}) == len(checks)


@pytest.mark.parametrize(("name", "found", "state", "told"), CASES, ids=[f"{case[0]} {case[1]}"[:70] for case in CASES])
def test_a_rule_fails(name: str, found: dict[str, Any], state: State, told: str):
    checks = {one.name: one for one in examine(msgspec.structs.replace(GOOD, **found))}
    check = checks[name]
    assert check.state is state
    assert told in f"{check.consequence}; {check.remedy}"
    assert check.found
    assert check.consequence
    assert check.remedy


def test_every_rule_has_a_case():
    failing = {name.split()[0] for name, *_ in CASES}
    for rule in RULES:
        names = {one.name.split()[0] for one in rule(GOOD)}
        assert names & failing, rule


# The gathering.


def test_this_machine(tmp_path: Path):
    found = gather(tmp_path / ".fissile", [(8000, "web")], frozenset({8000}))
    assert found.python == sys.version_info[:3]
    assert found.packages["uvloop"]
    assert found.ports == (Port(8000, "web", PortState.OURS),)
    assert (found.trouble, found.folder) == ("", str(tmp_path / ".fissile"))
    assert found.free_bytes > 0
    assert found.tasks > 0
    assert found.seccomp
    assert list(tmp_path.iterdir()) == []  # it has left nothing
    assert [one.name for one in examine(found) if one.state is FAULT] == []


def test_ports_that_others_have_or_that_are_not_allowed(monkeypatch: pytest.MonkeyPatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        number = taken.getsockname()[1]
        assert try_port(number, "web", False).state is PortState.TAKEN
        assert try_port(number, "web", True).state is PortState.OURS
    assert try_port(number, "web", False).state is PortState.FREE

    def refused(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", refused)
    assert try_port(80, "web", False) == Port(80, "web", PortState.DENIED, "Permission denied")


def test_a_folder_in_which_something_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fails(*_: object, **__: object) -> None:
        raise OSError(37, "No locks available")

    for place, name, told in (
        (fcntl, "flock", "files cannot be locked: No locks available"),
        (Path, "rename", "files cannot be renamed: No locks available"),
        (Path, "symlink_to", "links cannot be made: No locks available"),
        (socket.socket, "bind", "sockets cannot be made: No locks available"),
        (gathering.tempfile, "mkdtemp", "it cannot be written to: No locks available"),
    ):
        with monkeypatch.context() as patched:
            patched.setattr(place, name, fails)
            assert tried(tmp_path / "a" / "b") == (told, True)
        assert list(tmp_path.iterdir()) == []


def lay(root: Path, files: dict[str, str]) -> None:
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)


def test_control_groups_are_looked_at_and_left_alone(tmp_path: Path):
    own = tmp_path / "own"
    own.write_text("0::/user/app\n")
    root = tmp_path / "cgroup"
    lay(root, {"cgroup.controllers": "cpu memory pids"})
    assert control_groups(root, own) == (2, (), False)
    inner = {"cgroup.controllers": "memory pids\n", "cgroup.procs": "1\n2\n", "cgroup.subtree_control": ""}
    lay(root / "user/app", inner)
    before = sorted(root.rglob("*"))
    assert control_groups(root, own) == (2, ("memory", "pids"), True)
    own.write_text("0::/\n")
    lay(root, inner)
    assert control_groups(root, own)[2] is False  # the root's processes are everybody's
    assert sorted(root.rglob("*")) == sorted([*before, root / "cgroup.procs", root / "cgroup.subtree_control"])
    assert control_groups(root, tmp_path / "gone") == (0, (), False)


def test_control_groups_of_the_first_version(tmp_path: Path):
    own = tmp_path / "own"
    own.write_text("5:memory:/a\n4:cpu,cpuacct:/a\n3:pids:/b\n1:name=systemd:/\n")
    lay(tmp_path, {"memory/a/cgroup.procs": "", "pids/cgroup.procs": ""})
    assert control_groups(tmp_path, own) == (1, ("memory", "pids"), True)


@pytest.mark.parametrize(
    ("variables", "home", "wanted"),
    [
        ({"CONFIG_ARGS": "'--enable-optimizations'"}, "/opt/python/bin/python3", True),
        ({"CONFIG_ARGS": "'--enable-shared'"}, "/opt/python/bin/python3", False),
        ({"CONFIG_ARGS": "'--enable-shared'"}, "/usr/bin/python3.11", True),
        ({}, "/opt/python/bin/python3", None),
    ],
)
def test_how_the_interpreter_was_built(variables: dict[str, object], home: str, wanted: bool | None):
    assert optimized(variables, home) is wanted


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_to(tmp_path: Path):
    tmp_path.chmod(0o500)
    assert tried(tmp_path) == ("it cannot be written to: Permission denied", True)

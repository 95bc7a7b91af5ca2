"""Which walls stand, which paths stay readable, and what the filter answers: decided without a kernel."""

import errno
import os
import struct
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fissile.machine import seccomp
from fissile.machine.procfs import RLIMIT_LOCKS
from fissile.machine.seccomp import ARCHITECTURES, JUDGED, Architecture
from fissile.machine.walls import Machine, mounted, readable, seen_anywhere, standing, within
from fissile.machine.warden import AT_FDCWD, understood

TREE = {
    "/": ["/app", "/etc", "/usr"],
    "/app": ["/app/.fissile", "/app/data", "/app/fissile.toml", "/app/main.py"],
    "/app/.fissile": ["/app/.fissile/code", "/app/.fissile/journal.db", "/app/.fissile/tmp"],
    "/app/.fissile/code/1/app": ["/app/.fissile/code/1/app/main.py", "/app/.fissile/code/1/app/fissile.toml"],
}


def entries(folder: str) -> list[str]:
    return TREE.get(folder, [])


@pytest.mark.parametrize(
    ("hidden", "shown", "found"),
    [
        ([], [], ["/"]),
        (["/app/.fissile"], [], ["/app/data", "/app/fissile.toml", "/app/main.py", "/etc", "/usr"]),
        (["/app/.fissile", "/app/fissile.toml"], [], ["/app/data", "/app/main.py", "/etc", "/usr"]),
        (["/app"], ["/app/.fissile/tmp"], ["/etc", "/usr", "/app/.fissile/tmp"]),
        (
            ["/app", "/app/.fissile/code/1/app/fissile.toml"],
            ["/app/.fissile/code/1/app"],
            ["/etc", "/usr", "/app/.fissile/code/1/app/main.py"],
        ),
        (["/"], ["/usr"], ["/usr"]),
        # What is not there hides nothing else but what lies above it.
        (["/etc/none"], [], ["/app", "/usr"]),
    ],
)
def test_reading_is_allowed_beside_what_is_hidden(hidden: list[str], shown: list[str], found: list[str]):
    assert readable(hidden, shown, entries) == found


MOUNTS = """\
21 1 254:0 / / rw - ext4 /dev/vda rw
22 21 254:1 / /home rw - ext4 /dev/vdb rw
23 21 254:0 /srv/app /mnt/my\\040app rw - ext4 /dev/vda rw
24 21 254:0 /srv /export rw shared:1 - ext4 /dev/vda rw
25 21 254:0 /srv/app/.fissile/code /code rw - ext4 /dev/vda rw
26 22 254:0 /other /home/one rw - ext4 /dev/vda rw
27 21 0:5 / /srv/app/tmpfs rw - tmpfs tmpfs rw
"""


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/srv/app/.fissile", {"/mnt/my app/.fissile", "/export/app/.fissile", "/code"}),
        ("/srv/app/fissile.toml", {"/mnt/my app/fissile.toml", "/export/app/fissile.toml"}),
        ("/export/app", {"/srv/app", "/mnt/my app", "/code"}),
        ("/home/two/.fissile", set()),
        ("/home/one/.fissile", {"/other/.fissile"}),
        ("/srv/app/tmpfs/.fissile", set()),
        ("/srv/apples", {"/export/apples"}),
    ],
)
def test_what_is_hidden_is_so_wherever_it_is_mounted(path: str, found: set[str]):
    assert set(seen_anywhere([path], mounted(MOUNTS))) == {path, *found}
    assert seen_anywhere([path], ()) == (path,)


names = st.sampled_from(["a", "b", "c"])
paths = st.lists(names, min_size=1, max_size=3).map(lambda parts: "/" + "/".join(parts))


def full(folder: str) -> list[str]:
    """A tree that has every name everywhere, four deep."""
    depth = len(PurePosixPath(folder).parts)
    return [f"{folder.rstrip('/')}/{name}" for name in "abc"] if depth <= 4 else []


@given(st.sets(paths, max_size=4), paths)
def test_a_path_is_readable_unless_it_is_hidden_or_above_what_is(hidden: set[str], path: str):
    allowed = readable(hidden, [], full)
    is_allowed = any(within(path, one) for one in allowed)
    assert is_allowed == (not any(within(path, one) or within(one, path) for one in hidden))


@pytest.mark.parametrize(
    ("machine", "confined", "user", "level", "walls", "missing"),
    [
        (Machine(7, True, True), False, "", "none", "", ""),
        (
            Machine(7, True, False),
            True,
            "",
            "confined",
            "write read metadata privileges ptrace signals abstract sockets",
            "",
        ),
        (
            Machine(5, True, False),
            True,
            "",
            "confined",
            "write read metadata privileges ptrace",
            "signals abstract sockets",
        ),
        (
            Machine(7, False, True),
            True,
            "",
            "confined",
            "write read ptrace signals abstract sockets",
            "metadata privileges",
        ),
        (
            Machine(0, True, True),
            True,
            "www",
            "user",
            "privileges user:www",
            "write read metadata ptrace signals abstract sockets",
        ),
    ],
)
def test_which_walls_stand(machine: Machine, confined: bool, user: str, level: str, walls: str, missing: str):
    found = standing(machine, confined=confined, user=user)
    assert (found.level, " ".join(found.walls), " ".join(found.missing)) == (level, walls, missing)


def answer(code: bytes, number: int, *args: int, architecture: int) -> int:
    """What the kernel's machine for filters would return (linux/filter.h)."""
    data = struct.pack("=iIQ6Q", number, architecture, 0, *(*args, 0, 0, 0, 0, 0, 0)[:6])
    lines = list(struct.iter_unpack("=HBBI", code))
    place, value = 0, 0
    while True:
        what, yes, no, operand = lines[place]
        place += 1
        if what == seccomp.LOAD:
            (value,) = struct.unpack_from("=I", data, operand)
        elif what == seccomp.RETURN:
            return operand
        else:
            holds = {
                seccomp.JUMP_EQUAL: value == operand,
                seccomp.JUMP_AT_LEAST: value >= operand,
                seccomp.JUMP_ANY_OF: bool(value & operand),
            }[what]
            place += yes if holds else no


ADDRESS, TIMES = 0x7000, 0x8000
HERE = AT_FDCWD & 0xFFFFFFFFFFFFFFFF
EPERM, ENOSYS = (seccomp.RET_ERRNO | number for number in (errno.EPERM, errno.ENOSYS))
TIOCSTI, FS_IOC_SETFLAGS, TCGETS = 0x5412, 0x40086602, 0x5401
CLONE_VM, CLONE_NEWUSER, CLONE_NEWTIME, SIGCHLD = 0x100, 0x10000000, 0x80, 17


@pytest.mark.parametrize("own", ARCHITECTURES.values(), ids=ARCHITECTURES)
def test_what_the_filter_answers(own: Architecture):
    code = seccomp.program(own, judged=seccomp.RET_USER_NOTIF, truncating=True)

    def asked(name: str, *args: int) -> int:
        return answer(code, own.calls[name], *args, architecture=own.audit)

    for name in (
        "mount",
        "setns",
        "bpf",
        "chroot",
        "init_module",
        "keyctl",
        "open_by_handle_at",
    ):
        assert asked(name) == EPERM
    assert asked("fsetxattr") == asked("removexattr") == seccomp.RET_ERRNO | errno.EOPNOTSUPP
    assert asked("clone3") == asked("io_uring_setup") == asked("openat2") == ENOSYS
    for name in JUDGED & own.calls.keys():
        assert asked(name) == seccomp.RET_USER_NOTIF
    assert asked("clone", CLONE_VM | SIGCHLD) == asked("unshare", CLONE_VM) == seccomp.RET_ALLOW
    assert asked("clone", CLONE_NEWUSER | SIGCHLD) == asked("unshare", CLONE_NEWUSER) == EPERM
    assert asked("unshare", CLONE_NEWTIME) == EPERM
    assert asked("ioctl", 0, TCGETS) == seccomp.RET_ALLOW
    # The kernel looks at the lower half of a command alone.
    assert (
        asked("ioctl", 0, TIOCSTI)
        == asked("ioctl", 0, TIOCSTI | 1 << 32)
        == asked("ioctl", 0, FS_IOC_SETFLAGS)
        == EPERM
    )
    assert asked("truncate") == seccomp.RET_ALLOW
    assert asked("prlimit64", 0, 7, ADDRESS) == asked("prlimit64", 5, 7, 0) == seccomp.RET_ALLOW
    assert asked("prlimit64", 5, 7, ADDRESS) == asked("prlimit64", 5, 7, 1 << 32) == EPERM
    assert asked("prlimit64", 0, RLIMIT_LOCKS, ADDRESS) == asked("setrlimit", RLIMIT_LOCKS, ADDRESS) == EPERM
    assert asked("prlimit64", 0, RLIMIT_LOCKS, 0) == asked("setrlimit", 7, ADDRESS) == seccomp.RET_ALLOW
    assert asked("setpriority", 0, 5, 1) == asked("ioprio_set", 1, 5, 1) == seccomp.RET_ALLOW
    assert asked("setpriority", 2, 0, 1) == asked("ioprio_set", 3, 0, 1) == EPERM
    assert asked("openat", HERE, ADDRESS, os.O_CREAT, 0o4755) == asked("mknodat", HERE, ADDRESS, 0o102755) == EPERM
    assert asked("openat", HERE, ADDRESS, os.O_CREAT, 0o755) == asked("openat", HERE, ADDRESS, 0, 0o4755)
    assert asked("openat", HERE, ADDRESS, 0, 0o4755) == seccomp.RET_ALLOW
    assert len(code) // 8 <= 4096  # BPF_MAXINSNS


@pytest.mark.parametrize("own", ARCHITECTURES.values(), ids=ARCHITECTURES)
def test_what_the_filter_answers_where_landlock_is_old_and_nobody_judges(own: Architecture):
    code = seccomp.program(own, judged=EPERM, truncating=False)
    for name in ("truncate", *(JUDGED & own.calls.keys())):
        assert answer(code, own.calls[name], architecture=own.audit) == EPERM


def test_calls_of_another_numbering_are_refused():
    code = seccomp.program(ARCHITECTURES["x86_64"], judged=EPERM, truncating=True)
    i386 = 0x40000003
    read = 0
    assert answer(code, read, architecture=i386) == EPERM
    assert answer(code, read | seccomp.X32_CALLS, architecture=0xC000003E) == EPERM
    assert answer(code, read, architecture=0xC000003E) == seccomp.RET_ALLOW


@pytest.mark.parametrize(
    ("name", "args", "descriptor", "path", "follow", "mode", "times"),
    [
        ("chmod", (ADDRESS, 0o600), AT_FDCWD, ADDRESS, True, 0o600, 0),
        ("fchmod", (5, 0o600), 5, None, True, 0o600, 0),
        ("fchmodat", (HERE, ADDRESS, 0o600), AT_FDCWD, ADDRESS, True, 0o600, 0),
        ("fchmodat2", (5, ADDRESS, 0o600, 0x100), 5, ADDRESS, False, 0o600, 0),
        ("chown", (ADDRESS, 1, 2), AT_FDCWD, ADDRESS, True, None, 0),
        ("lchown", (ADDRESS, 1, 2), AT_FDCWD, ADDRESS, False, None, 0),
        ("fchownat", (5, ADDRESS, 1, 2, 0x100), 5, ADDRESS, False, None, 0),
        ("utimensat", (5, 0, TIMES, 0), 5, None, True, None, TIMES),
        ("utimensat", (HERE, ADDRESS, 0, 0x100), AT_FDCWD, ADDRESS, False, None, 0),
        ("utime", (ADDRESS, TIMES), AT_FDCWD, ADDRESS, True, None, TIMES),
    ],
)
def test_a_call_is_understood(
    name: str,
    args: tuple[int, ...],
    descriptor: int,
    path: int | None,
    follow: bool,
    mode: int | None,
    times: int,
):
    found = understood(name, (*args, 0, 0, 0, 0)[:6])
    assert (*found.target, found.mode, found.times) == (descriptor, path, follow, mode, times)

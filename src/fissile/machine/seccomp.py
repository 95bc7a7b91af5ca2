"""Seccomp: refuses a confined service the system calls that Landlock does not see.

Landlock judges paths, but neither modes, owners, times and attributes of files, nor what root may ask of the kernel.
A filter sees numbers alone, no paths. So changes of mode, owner and time are put to a warden (`warden`), who knows
which folders are the service's own; all else is refused outright. Where calls are numbered otherwise, as in a 32-bit
program, all of them are refused.

Sources: seccomp(2), seccomp_unotify(2), linux/seccomp.h, linux/filter.h; the numbers of system calls are those of
asm/unistd_64.h (x86_64) and asm-generic/unistd.h (aarch64).
"""

import ctypes
import errno
import os
import struct
import sys
from collections.abc import Iterable, Mapping

import msgspec

from fissile.machine.procfs import RLIMIT_LOCKS

SET_MODE_FILTER, FLAG_NEW_LISTENER = 1, 1 << 3
RET_ERRNO, RET_USER_NOTIF, RET_ALLOW = 0x00050000, 0x7FC00000, 0x7FFF0000
REFUSED, NOT_THERE, NOT_SUPPORTED = (RET_ERRNO | number for number in (errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP))
LOAD, JUMP_EQUAL, JUMP_AT_LEAST, JUMP_ANY_OF, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
NUMBER_AT, ARCHITECTURE_AT, ARGUMENTS_AT = 0, 4, 16
X32_CALLS = 0x40000000  # x86_64's other numbering
# CLONE_NEW*: mounts, control groups, names, IPC, users, pids, net; time for unshare alone (in clone: its signal).
NEW_NAMESPACES, NEW_TIME = 0x7E020000, 0x80
# TIOCSTI, TIOCLINUX: type into a terminal. FS_IOC_SETFLAGS, FS_IOC_FSSETXATTR, FS_IOC_SETVERSION: alter attributes.
REFUSED_IOCTLS = (0x5412, 0x541C, 0x40086602, 0x40046602, 0x401C5820, 0x40087602)

# Judged by a warden, and refused where there is none.
CHMOD, FCHMOD, FCHMODAT, FCHMODAT2 = "chmod", "fchmod", "fchmodat", "fchmodat2"
UTIME, UTIMES, FUTIMESAT, UTIMENSAT = "utime", "utimes", "futimesat", "utimensat"
CHOWN, FCHOWN, LCHOWN, FCHOWNAT = "chown", "fchown", "lchown", "fchownat"
JUDGED = frozenset(
    {CHMOD, FCHMOD, FCHMODAT, FCHMODAT2, UTIME, UTIMES, FUTIMESAT, UTIMENSAT, CHOWN, FCHOWN, LCHOWN, FCHOWNAT}
)
# Answered as by a kernel that does not have them: programs then take a call that can be looked at.
ABSENT = frozenset({"clone3", "io_uring_setup", "openat2"})
X86_64 = {
    CHMOD: 90, FCHMOD: 91, FCHMODAT: 268, FCHMODAT2: 452, UTIME: 132, UTIMES: 235, FUTIMESAT: 261, UTIMENSAT: 280,
    CHOWN: 92, FCHOWN: 93, LCHOWN: 94, FCHOWNAT: 260,
    "open": 2, "creat": 85, "openat": 257, "mknod": 133, "mknodat": 259,
    "setxattr": 188, "lsetxattr": 189, "fsetxattr": 190, "removexattr": 197, "lremovexattr": 198, "fremovexattr": 199,
    "mount": 165, "umount2": 166, "pivot_root": 155, "chroot": 161, "setns": 308, "swapon": 167, "swapoff": 168,
    "reboot": 169, "kexec_load": 246, "kexec_file_load": 320, "init_module": 175, "finit_module": 313,
    "delete_module": 176, "bpf": 321, "perf_event_open": 298, "settimeofday": 164, "clock_settime": 227,
    "acct": 163, "quotactl": 179, "syslog": 103, "sethostname": 170, "setdomainname": 171, "iopl": 172, "ioperm": 173,
    "vhangup": 153, "add_key": 248, "request_key": 249, "keyctl": 250, "open_by_handle_at": 304, "fanotify_init": 300,
    "clone": 56, "unshare": 272, "ioctl": 16, "truncate": 76, "seccomp": 317, "prlimit64": 302, "setpriority": 141,
    "ioprio_set": 251, "setrlimit": 160,
}  # fmt: skip
AARCH64 = {
    FCHMOD: 52, FCHMODAT: 53, FCHMODAT2: 452, UTIMENSAT: 88,
    FCHOWNAT: 54, FCHOWN: 55,
    "openat": 56, "mknodat": 33,
    "setxattr": 5, "lsetxattr": 6, "fsetxattr": 7, "removexattr": 14, "lremovexattr": 15, "fremovexattr": 16,
    "mount": 40, "umount2": 39, "pivot_root": 41, "chroot": 51, "setns": 268, "swapon": 224, "swapoff": 225,
    "reboot": 142, "kexec_load": 104, "kexec_file_load": 294, "init_module": 105, "finit_module": 273,
    "delete_module": 106, "bpf": 280, "perf_event_open": 241, "settimeofday": 170, "clock_settime": 112,
    "acct": 89, "quotactl": 60, "syslog": 116, "sethostname": 161, "setdomainname": 162,
    "vhangup": 58, "add_key": 217, "request_key": 218, "keyctl": 219, "open_by_handle_at": 265, "fanotify_init": 262,
    "clone": 220, "unshare": 97, "ioctl": 29, "truncate": 45, "seccomp": 277, "prlimit64": 261, "setpriority": 140,
    "ioprio_set": 30, "setrlimit": 164,
}  # fmt: skip
# The same everywhere, as all that came late.
EVERYWHERE = {
    "clone3": 435, "openat2": 437, "io_uring_setup": 425, "open_tree": 428, "move_mount": 429, "fsopen": 430,
    "fsconfig": 431, "fsmount": 432, "fspick": 433, "mount_setattr": 442, "quotactl_fd": 443, "setxattrat": 463,
    "removexattrat": 466, "open_tree_attr": 467, "file_setattr": 469,
}  # fmt: skip
# Which argument of a call that makes a file is its mode, and which its flags (-1: it always makes one).
MAKING = {"open": (2, 1), "creat": (1, -1), "openat": (3, 2), "mknod": (1, -1), "mknodat": (2, -1)}
MAKES = 0x40 | 0x400000  # O_CREAT, O_TMPFILE
# As on a file system that keeps no attributes: programs copy files without them.
ATTRIBUTES = frozenset(
    {"setxattr", "lsetxattr", "fsetxattr", "removexattr", "lremovexattr", "fremovexattr", "setxattrat", "removexattrat"}
)
SET_ID = 0o6000  # whoever runs such a file is its owner meanwhile
# Of one process (setpriority(2)); of one process or thread (ioprio_set(2)). Others are of groups, and of all of a user.
ONE = {"setpriority": 0, "ioprio_set": 1}
LOOKED_AT = frozenset({"clone", "unshare", "ioctl", "seccomp", "prlimit64", "setrlimit", *MAKING, *ONE})


class Architecture(msgspec.Struct, frozen=True):
    """How a processor's system calls are numbered. audit: its name in the kernel (linux/audit.h)."""

    audit: int
    calls: Mapping[str, int]


ARCHITECTURES = {
    "x86_64": Architecture(0xC000003E, {**X86_64, **EVERYWHERE}),
    "aarch64": Architecture(0xC00000B7, {**AARCH64, **EVERYWHERE}),
}


def architecture() -> Architecture | None:
    """This machine's, if its calls are known."""
    return ARCHITECTURES.get(os.uname().machine) if sys.platform == "linux" else None


def program(own: Architecture, *, judged: int, truncating: bool) -> bytes:
    """The filter, in the kernel's classic BPF. judged: what is returned for changes of modes, owners, times.

    truncating: whether truncate(2) is Landlock's affair; else it is refused, for a path may be truncated by it.
    """
    calls = own.calls
    outright = calls.keys() - JUDGED - ABSENT - ATTRIBUTES - LOOKED_AT - ({"truncate"} if truncating else set())
    code = [
        (LOAD, 0, 0, ARCHITECTURE_AT),
        (JUMP_EQUAL, 1, 0, own.audit),
        (RETURN, 0, 0, REFUSED),
        (LOAD, 0, 0, NUMBER_AT),
        (JUMP_AT_LEAST, 0, 1, X32_CALLS),
        (RETURN, 0, 0, REFUSED),
    ]
    for names, action in (
        (outright, REFUSED),
        (ABSENT, NOT_THERE),
        (ATTRIBUTES, NOT_SUPPORTED),
        (JUDGED & calls.keys(), judged),
    ):
        for number in sorted(calls[name] for name in names):
            code += [(JUMP_EQUAL, 0, 1, number), (RETURN, 0, 0, action)]
    code += _looked_at(calls["clone"], 0, [(JUMP_ANY_OF, 0, 1, NEW_NAMESPACES), (RETURN, 0, 0, REFUSED)])
    code += _looked_at(calls["unshare"], 0, [(JUMP_ANY_OF, 0, 1, NEW_NAMESPACES | NEW_TIME), (RETURN, 0, 0, REFUSED)])
    typing = [one for command in REFUSED_IOCTLS for one in ((JUMP_EQUAL, 0, 1, command), (RETURN, 0, 0, REFUSED))]
    code += _looked_at(calls["ioctl"], 1, typing)
    for name, which in ONE.items():
        code += _looked_at(calls[name], 0, [(JUMP_EQUAL, 1, 0, which), (RETURN, 0, 0, REFUSED)])
    # Limits of another process end it: a signal by another name. Reading is by address 0, its own are set by number 0.
    # One of its own is the mark by which it is known for what it is, also when all that were above it have died.
    reads = [
        (JUMP_EQUAL, 0, 3, 0),
        (LOAD, 0, 0, ARGUMENTS_AT + 8 * 2 + 4),
        (JUMP_EQUAL, 0, 1, 0),
        (RETURN, 0, 0, RET_ALLOW),
    ]
    others = [(LOAD, 0, 0, ARGUMENTS_AT), (JUMP_EQUAL, 1, 0, 0), (RETURN, 0, 0, REFUSED)]
    marks = [(JUMP_EQUAL, 0, 1, RLIMIT_LOCKS), (RETURN, 0, 0, REFUSED)]
    code += _looked_at(calls["prlimit64"], 2, [*reads, *others, (LOAD, 0, 0, ARGUMENTS_AT + 8), *marks])
    code += _looked_at(calls["setrlimit"], 0, marks)
    for name in sorted(MAKING.keys() & calls.keys()):
        mode, flags = MAKING[name]
        set_id = [(LOAD, 0, 0, ARGUMENTS_AT + 8 * mode), (JUMP_ANY_OF, 0, 1, SET_ID), (RETURN, 0, 0, REFUSED)]
        # Where no file is made, the mode is whatever happens to be there.
        makes = [(JUMP_ANY_OF, 1, 0, MAKES), (RETURN, 0, 0, RET_ALLOW)] if flags >= 0 else []
        code += _looked_at(calls[name], max(flags, 0), [*makes, *set_id])
    code.append((RETURN, 0, 0, RET_ALLOW))
    return b"".join(struct.pack("=HBBI", *one) for one in code)


def _looked_at(
    number: int, argument: int, code: Iterable[tuple[int, int, int, int]]
) -> list[tuple[int, int, int, int]]:
    """Code that sees the lower half of an argument; what it lets pass is allowed."""
    body = [(LOAD, 0, 0, ARGUMENTS_AT + 8 * argument), *code, (RETURN, 0, 0, RET_ALLOW)]
    return [(JUMP_EQUAL, 0, len(body), number), *body]


def install(own: Architecture, *, judged: int, truncating: bool) -> int:
    """Filter the calls of this process and all that it starts; it must not gain privileges any more (prctl(2)).

    judged: what is answered to changes of modes, owners and times; RET_USER_NOTIF: what a warden says. Returns the
    descriptor at which the warden is asked, or -1. Raises OSError.
    """
    code = program(own, judged=judged, truncating=truncating)
    buffer = ctypes.create_string_buffer(code, len(code))
    filtered = struct.pack("@HP", len(code) // 8, ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    flags = FLAG_NEW_LISTENER if judged == RET_USER_NOTIF else 0
    found = libc.syscall(own.calls["seccomp"], SET_MODE_FILTER, flags, filtered)
    if found < 0:
        number = ctypes.get_errno()
        raise OSError(number, "system calls cannot be filtered")
    return found if flags else -1

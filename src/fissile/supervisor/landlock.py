"""Where a process and its children may write: the kernel's Landlock, which needs no privileges.

A process gives up a right for good, so this is done in the child, before any of its own code runs. Reading
is left as it is. Devices may be written to, /dev/shm included: programs share memory there.

Source: docs.kernel.org/userspace-api/landlock.html, landlock(7); the numbers are those of linux/landlock.h,
and the system calls' are the same on all architectures.
"""

import ctypes
import os
import struct
from collections.abc import Iterable

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
CREATE_RULESET_VERSION = 1
RULE_PATH_BENEATH = 1
PR_SET_NO_NEW_PRIVS = 38

WRITE_FILE, TRUNCATE = 1 << 1, 1 << 14
REMOVE_DIR, REMOVE_FILE = 1 << 4, 1 << 5
MAKE_CHAR, MAKE_DIR, MAKE_REG, MAKE_SOCK = 1 << 6, 1 << 7, 1 << 8, 1 << 9
MAKE_FIFO, MAKE_BLOCK, MAKE_SYM, REFER = 1 << 10, 1 << 11, 1 << 12, 1 << 13
# Since version 1, 2 and 3 of the interface.
RIGHTS = (
    WRITE_FILE
    | REMOVE_DIR
    | REMOVE_FILE
    | MAKE_CHAR
    | MAKE_DIR
    | MAKE_REG
    | MAKE_SOCK
    | MAKE_FIFO
    | MAKE_BLOCK
    | MAKE_SYM,
    REFER,
    TRUNCATE,
)
OF_FILES = WRITE_FILE | TRUNCATE
DEVICES = "/dev"


def interface_version() -> int:
    """Of the running kernel; 0 where it has no Landlock, or has it turned off."""
    return max(0, ctypes.CDLL(None).syscall(CREATE_RULESET, None, ctypes.c_size_t(0), CREATE_RULESET_VERSION))


def confine(paths: Iterable[str]) -> None:
    """From now on this process writes to these folders and files, and to devices, alone. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    handled = 0
    for rights in RIGHTS[: interface_version()]:
        handled |= rights
    attributes = struct.pack("=Q", handled)
    ruleset = _checked(libc.syscall(CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0))
    try:
        for path in [DEVICES, *paths]:
            fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
            try:
                rights = handled & ~(MAKE_CHAR | MAKE_BLOCK) if os.path.isdir(path) else handled & OF_FILES
                rule = struct.pack("=Qi", rights, fd)
                _checked(libc.syscall(ADD_RULE, ruleset, RULE_PATH_BENEATH, rule, 0))
            finally:
                os.close(fd)
        _checked(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        _checked(libc.syscall(RESTRICT_SELF, ruleset, 0))
    finally:
        os.close(ruleset)


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result

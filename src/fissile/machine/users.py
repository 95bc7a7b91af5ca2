"""Other users of this system: who they are, and what they reach.

Sources: passwd(5), getgrouplist(3), path_resolution(7).
"""

import grp
import os
import pwd
import stat
import sys
from pathlib import Path

import fissile
from fissile.errors import ConfigError
from fissile.machine.walls import User

READ, WRITE, SEARCH = 4, 2, 1


def find_user(name: str) -> User:
    """A user by name. Raises ConfigError where we cannot become that user, or it would be no wall."""
    if os.geteuid() != 0:
        raise ConfigError(
            f"user = {name!r}: only root can run a service as another user",
            remedy="start Fissile as root, or leave `user` out and write isolate = true",
        )
    try:
        found = pwd.getpwnam(name)
    except KeyError:
        raise ConfigError(f"user = {name!r}: this system has no such user", remedy=f"useradd --system {name}") from None
    if found.pw_uid == 0:
        raise ConfigError(f"user = {name!r} is root, which no wall holds", remedy="name a user of the service's own")
    groups = {one.gr_gid for one in grp.getgrall() if name in one.gr_mem} | {found.pw_gid}
    return User(name, found.pw_uid, found.pw_gid, tuple(sorted(groups)), found.pw_dir)


def may(user: User, path: Path, need: int) -> bool:
    """Whether a user has these rights to a file or folder by its mode alone: not counting folders above, nor ACLs."""
    found = path.stat()
    mode = stat.S_IMODE(found.st_mode)
    if found.st_uid == user.uid:
        mode >>= 6
    elif found.st_gid in user.groups:
        mode >>= 3
    return mode & need == need


def out_of_reach(user: User, path: Path, need: int) -> str:
    """Return what keeps a user from a path, or ""."""
    path = path.resolve()
    for folder in reversed(path.parents):
        if not may(user, folder, SEARCH):
            return f"this user cannot enter {folder}: `chmod o+x {folder}` lets it"
    verb = "write to" if need & WRITE else "read" if need & READ else "enter"
    if may(user, path, need):
        return ""
    remedy = (
        f"chown -R {user.name} {path}" if need & WRITE else f"chmod o+rx {path}" if need & READ else f"chmod o+x {path}"
    )
    return f"this user cannot {verb} {path}: `{remedy}` lets it"


def python_out_of_reach(user: User) -> str:
    """Return what keeps a user from this Python and this Fissile, or ""."""
    needed = (Path(sys.executable).parent, Path(os.__file__).parent, Path(fissile.__file__).parent)
    return next(filter(None, (out_of_reach(user, path, READ | SEARCH) for path in needed)), "")

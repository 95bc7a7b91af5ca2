"""The folder .fissile next to fissile.toml: one supervisor's lock, sockets and endpoints.

Only its owner may look into it, whatever the umask: folders are 0700, files 0600, programs in the copy of a release
0700. What a killed supervisor left there is cleaned by the next one; two at a time are refused.

Where a service runs as another user (`share`, `share_copy`), that one passes through the folder (0711) to what it
needs: the sockets at which services call each other and report, whose peers prove themselves by tokens, and the copy
of its release, without the configuration. It sees no list of what else there is, and reads none of it.
"""

import errno
import fcntl
import hashlib
import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

import msgspec

from fissile.errors import ConfigError
from fissile.machine.leftover_processes import Ending, Survivor, left_anywhere, survivors
from fissile.machine.procfs import Mark
from fissile.machine.remove_tree import remove_tree
from fissile.machine.sockets import EVERYBODYS, OWNERS, SOCKET, SPARES, restore
from fissile.releases.private import CODE, PRIVATE_FILE, PRIVATE_FOLDER
from fissile.rpc.paths import PATH_BYTES_MAX, any_length
from fissile.supervisor.endpoints import ENDPOINTS, FOLDER, Endpoints, identity_of, state_of

LOCK = "lock"
# So that `git add -A`, `git clean` and `git stash -u` leave the folder alone.
IGNORING = ".gitignore"
# Copies of the code of releases.
# Temporary files of confined services, a folder for each replica.
TEMPORARY = "tmp"
STACKS = ".stacks"

SOCKET_NAME_BYTES_MAX = 66
# What another user may pass through, without seeing what is in it; and what he may read.
PASSABLE, READABLE_FOLDER, READABLE_FILE = 0o711, 0o755, 0o644
EXECUTABLE = 0o111
API_SOCKET = "api"
ZYGOTE_SOCKET = "zygote"
HANDOVER = "edge"
STACKS_BYTES_MAX = 20_000


def unusable(folder: Path, error: OSError) -> ConfigError:
    """The error of whoever cannot make or write to a state folder."""
    if error.errno == errno.ENOSPC:
        return ConfigError(f"{folder} cannot be written to: the disk is full", remedy="make room on the disk")
    return ConfigError(f"{folder} cannot be used: {error.strerror}", remedy="make its parent a folder you can write to")


class StateFolder:
    """The folder, locked while it is open. `sockets` is where Unix sockets go.

    socket_mode: of the sockets that services use among each other, and to report.
    """

    def __init__(self, root: Path) -> None:
        self.path = state_of(root)
        self._root = root
        self.sockets = self.path
        self.socket_mode = OWNERS
        self._lock = -1
        self._mark: Mark | None = None

    @property
    def lock(self) -> int:
        """The descriptor by which the folder is locked; -1 where it is not."""
        return self._lock

    def open(self) -> None:
        """Make the folder and lock it. Raises ConfigError."""
        try:
            self.path.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
            self._lock = self._locked()
            if not (ignoring := self.path / IGNORING).exists():
                ignoring.write_text("*\n", encoding="ascii")
            self.show_in(self._root)
            self.mark()  # it stays the same when somebody removes the folder
            self._tighten()
        except OSError as error:
            raise unusable(self.path, error) from None
        self.sockets = self._socket_folder()
        restore(str(self.sockets))  # by them the zygotes of a dead supervisor are found

    def show_in(self, root: Path) -> None:
        """Have it found in a folder of the application that it is not in."""
        inside = root / FOLDER
        if not os.path.lexists(inside):
            with suppress(OSError):  # a folder that cannot be written to is found by its name alone
                inside.symlink_to(self.path)

    def _tighten(self) -> None:
        """Close what an earlier version made, or somebody has opened. What is shared serves on."""
        for folder in (self.path, self.path / CODE):  # below the copies nothing is looked at: nobody else enters there
            _make_private(folder, PRIVATE_FOLDER, PASSABLE)
        for name, folders, files in os.walk(self.path):
            folders[:] = [one for one in folders if one not in (CODE, SPARES, TEMPORARY)]
            for one in folders:
                _make_private(Path(name, one), PRIVATE_FOLDER)
            for one in files:
                if not one.endswith(SOCKET):
                    _make_private(Path(name, one), PRIVATE_FILE)

    def share(self) -> None:
        """Let other users pass through the folder to the sockets that replicas need; those made later, too.

        Not to those by which the application is ordered: that of the API and those of zygotes stay the owner's own.
        May be called again. Raises OSError.
        """
        self.socket_mode = EVERYBODYS
        for folder in {self.path, self.sockets}:
            folder.chmod(PASSABLE)
            for file in folder.glob(f"*{SOCKET}"):
                if file.stem != API_SOCKET and not file.name.startswith(f"{ZYGOTE_SOCKET}-"):
                    file.chmod(EVERYBODYS)

    def share_copy(self, root: Path, *, but: tuple[str, ...] = (), like: Path | None = None) -> None:
        """Let other users read the copy of a release's code (root: its folder), but for files of these names.

        like: the folder that it is a copy of; then only what they may read there. May be called again. Raises OSError.
        """
        for folder in (self.path, root.parent.parent, root.parent):
            folder.chmod(PASSABLE)
        for name, folders, files in os.walk(root):
            folder = Path(name)
            own = like / folder.relative_to(root) if like is not None else None
            if own is None or _is_open(own, EXECUTABLE):
                folder.chmod(READABLE_FOLDER)
            folders[:] = [one for one in folders if not (folder / one).is_symlink()]
            for file in (folder / one for one in files):
                if not file.is_symlink() and file.name not in but and (own is None or _is_open(own / file.name)):
                    program = file.stat().st_mode & EXECUTABLE
                    file.chmod(READABLE_FILE | (EXECUTABLE if program else 0))

    def _locked(self) -> int:
        file = self.path / LOCK
        while True:
            fd = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.read(fd, 32).decode("ascii", "replace").strip()
                os.close(fd)
                by = f" (pid {holder})" if holder else ""
                raise ConfigError(
                    f"this application runs already{by}: {self.path} is locked",
                    remedy="`fissile status` shows it, and `fissile deploy` brings it the code in the folder; "
                    "or stop it first: with `fissile down`, or by Ctrl-C where `fissile run` runs it",
                ) from None
            # Whoever held it before may have removed the file between our open and our lock.
            if file.exists() and os.path.samestat(os.fstat(fd), file.stat()):
                os.ftruncate(fd, 0)
                os.write(fd, f"{os.getpid()}\n".encode())
                return fd
            os.close(fd)

    def _socket_folder(self) -> Path:
        path = self.path.resolve()
        if any_length() or len(os.fsencode(path)) + 1 + SOCKET_NAME_BYTES_MAX <= PATH_BYTES_MAX:
            return path
        digest = hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
        short = Path(tempfile.gettempdir()) / f"fissile-{os.getuid()}-{digest}"
        with suppress(FileExistsError):
            short.mkdir(mode=0o700)
        found = short.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
            raise ConfigError(
                f"{short} is not a private folder of yours", remedy="remove it, or set TMPDIR to a folder of your own"
            )
        return short

    @property
    def ours(self) -> bool:
        """Whether we hold the lock, so that all that is the application's is ours to end."""
        return self._lock >= 0

    def mark(self) -> Mark:
        """Of all processes of the application in this folder."""
        if self._mark is None:
            self._mark = Mark(identity_of(self.path), 0)
        return self._mark

    def clear(self) -> tuple[int, list[Survivor]]:
        """End all that is the application's; how many there were, and who lives on. Takes a second where one resists.

        Spares this process and those above it.
        """
        application = self.mark().application
        ending = Ending(lambda: left_anywhere(application))
        left = survivors(ending.run())
        return ending.found, left

    def left(self) -> dict[int, int]:
        """The births of the replicas that were known here last; in a copy of a folder none: they are the other's."""
        with suppress(OSError, msgspec.DecodeError):
            found = msgspec.json.decode((self.path / ENDPOINTS).read_bytes(), type=Endpoints)
            return {} if found.copied_to(self.path) else found.births
        return {}

    def clean(self) -> None:
        """Remove what was left of those who run no more; nobody needs to pass through the folder either."""
        for folder in (self.path, self.path / CODE):
            _make_private(folder, PRIVATE_FOLDER)
        for file in [*self.path.iterdir(), *self.sockets.iterdir()]:
            if file.suffix in (SOCKET, STACKS) or file.name == ENDPOINTS:
                file.unlink(missing_ok=True)
        for folder in {self.path / TEMPORARY, self.path / SPARES, self.sockets / SPARES}:
            remove_tree(folder)

    def socket_path(self, name: str) -> str:
        """Where the Unix socket of this name is."""
        return f"{self.sockets}/{name}{SOCKET}"

    def handover_path(self, serial: int) -> str:
        """Where a replica takes connections that another accepted."""
        return self.socket_path(f"{HANDOVER}-{serial}")

    def handovers(self) -> dict[int, Path]:
        """The sockets of `handover_path` that are in the folder, by serial: of whoever made them."""
        found = {path.stem.removeprefix(f"{HANDOVER}-"): path for path in self.sockets.glob(f"{HANDOVER}-*{SOCKET}")}
        return {int(serial): path for serial, path in found.items() if serial.isdecimal()}

    def stacks(self, key: str) -> Path:
        """The file in which a stuck replica writes where it stands. key: the replica's."""
        return self.path / f"{key}{STACKS}"

    def read_stacks(self, key: str) -> str:
        """Where a stuck replica stood; "" if it has not said. key: the replica's."""
        try:
            # Its end alone: the replica, which may be in wrong hands, writes as much as it likes.
            with self.stacks(key).open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - STACKS_BYTES_MAX))
                return file.read(STACKS_BYTES_MAX).decode(errors="replace")
        except OSError:
            return ""

    def zygotes(self) -> list[str]:
        """The Unix sockets at which zygotes may be found that outlived their supervisor."""
        return [str(path) for path in self.sockets.glob(f"{ZYGOTE_SOCKET}-*{SOCKET}")]

    def publish(self, endpoints: Endpoints) -> None:
        """Publish the endpoints: readers see the old ones or the new ones, never a half."""
        draft = self.path / f"{ENDPOINTS}.new"
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, PRIVATE_FILE)
        with open(fd, "wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(endpoints)))
        draft.rename(self.path / ENDPOINTS)

    def let_go(self) -> None:
        """Leave the folder to the next supervisor as it is, but for the lock, which none is left to hold."""
        if self._lock >= 0:
            (self.path / LOCK).unlink(missing_ok=True)
            os.close(self._lock)
            self._lock = -1

    def close(self) -> None:
        """Remove what was made, the folder too if nothing else is in it."""
        if self._lock < 0:
            return
        self.clean()
        (self.path / LOCK).unlink(missing_ok=True)
        os.close(self._lock)
        self._lock = -1
        with suppress(OSError):
            if os.listdir(self.path) == [IGNORING]:
                (self.path / IGNORING).unlink()
        for folder in {self.sockets, self.path}:
            with suppress(OSError):
                folder.rmdir()


def _make_private(path: Path, mode: int, allowed: int = 0) -> None:
    """Take all rights from others, but for the allowed ones."""
    with suppress(OSError):  # it went away
        if not path.is_symlink() and path.stat().st_mode & 0o077 & ~allowed:
            path.chmod(mode)


def _is_open(own: Path, more: int = 0) -> bool:
    """Whether everybody may read a file or folder, and what else is asked (of EXECUTABLE)."""
    wanted = stat.S_IROTH | (more & stat.S_IXOTH)
    with suppress(OSError):
        return own.stat().st_mode & wanted == wanted
    return False

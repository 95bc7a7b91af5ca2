"""What a fleet's services are kept to: which folders are hidden from them, and what of those they need all the same."""

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from fissile.machine.remove_tree import remove_tree
from fissile.machine.walls import Mount, Walls, mounted, seen_anywhere
from fissile.releases.manifest import works_in
from fissile.releases.private import PRIVATE_FOLDER
from fissile.settings.schema import FILE_NAME, Settings
from fissile.supervisor.loaded_release import LoadedRelease
from fissile.supervisor.service import Service
from fissile.supervisor.state import SupervisorState
from fissile.supervisor.state_folder import PASSABLE, STACKS, TEMPORARY


def raise_walls(
    state: SupervisorState, loaded: LoadedRelease, service: Service, key: str, stacks: str = ""
) -> Walls | None:
    """What a replica is kept to, with a folder made for it; None where it is not confined.

    key: the replica's. stacks: the file in which it says where it stands. Raises OSError.
    """
    limits = loaded.limits.get(service.name)
    if limits is None or limits.disk is None:
        return None
    private = state.folder.path.resolve()
    temporary = private / TEMPORARY / key
    for folder in (temporary.parent, temporary):
        folder.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)
    own = [str(temporary)]
    if stacks:
        file = Path(stacks).resolve()
        file.touch(mode=0o600)
        own.append(str(file))
    if limits.user is not None:
        temporary.parent.chmod(PASSABLE)
        for path in own:
            os.chown(path, limits.user.uid, limits.user.gid)
    code = Path(loaded.settings.root).resolve()
    copied = code.is_relative_to(private)
    root = state.root.resolve()
    home = works_in(code, root, service.name) if service.settings.command else code
    hidden = dict.fromkeys((private, state.folder.sockets.resolve(), *_configuration(root, loaded.settings)))
    hidden |= dict.fromkeys(_configuration(code, loaded.settings))
    return Walls(
        write=(*limits.disk, *own),
        hidden=seen_anywhere(map(str, hidden), mounts()),
        shown=(*own, *([str(code)] if copied else [])),
        listed=private.is_relative_to((home / service.settings.folder).resolve()),
        temporary=str(temporary),
        user=limits.user,
    )


def _configuration(folder: Path, settings: Settings) -> list[Path]:
    """The files that hold every component's configuration."""
    names = dict.fromkeys(filter(None, (FILE_NAME, settings.file)))
    # What a link leads to is the file that holds it, as where a container is given its configuration.
    return [found for name in names if (file := folder / name).is_file() for found in (file, file.resolve())]


def mounts() -> tuple[Mount, ...]:
    """Of this machine, as this process sees them; none where the system does not say."""
    try:
        return mounted(Path("/proc/self/mountinfo").read_text(errors="surrogateescape"))
    except OSError:
        return ()


def environment(walls: Walls | None) -> dict[str, str]:
    """What a confined process has to be told."""
    if walls is None:
        return {}
    found = {"TMPDIR": walls.temporary}
    if walls.user is not None:
        found |= {"HOME": walls.user.home, "USER": walls.user.name, "LOGNAME": walls.user.name}
    return found


def made_for(state: SupervisorState) -> dict[str, int]:
    """The replicas that temporary files, or stacks, are there of: their serials by their keys."""
    folder = state.folder.path
    keys = [path.name for path in folder.glob(f"{TEMPORARY}/*")] + [path.stem for path in folder.glob(f"*{STACKS}")]
    found = {key: key.rpartition(".")[2] for key in keys}
    return {key: int(serial) for key, serial in found.items() if serial.isdecimal()}


def take_down(state: SupervisorState, keys: Iterable[str]) -> None:
    """Remove the temporary files, and the stacks, of replicas that have ended."""
    folder = state.folder.path / TEMPORARY
    for key in keys:
        remove_tree(folder / key)
        with suppress(OSError):
            (state.folder.path / f"{key}{STACKS}").unlink(missing_ok=True)
    with suppress(OSError):
        folder.rmdir()

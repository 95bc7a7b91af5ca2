"""Whether the packages that a release was made with are installed still, and what to do where they are not."""

import asyncio
import sys

from fissile.errors import ConfigError, FissileError
from fissile.releases.installed import installed, is_uvs, path_now, working_folder
from fissile.releases.packages import Installed, Missing, differences, from_here, gone, listed, way_back
from fissile.supervisor.loader import ReleaseLoader
from fissile.supervisor.state import SupervisorState


class PackagesChanged(FissileError):
    """A release cannot run as it was, because its packages are not installed any more. Nothing was touched."""


def check(release: str, missing: tuple[Missing, ...], before: Installed, consent: str) -> None:
    """Raises PackagesChanged where a release could not run with what it was made with."""
    lost = gone(missing)
    if not lost:
        return
    raise PackagesChanged(
        f"packages are not as they were when release {release} was made: {listed(lost)}",
        remedy=f"{remedy_of(lost, before)}; or say --accept-packages: {consent}",
    )


async def installed_now(state: SupervisorState, loader: ReleaseLoader) -> Installed:
    """What is installed, as far as it is seen from here."""
    path = await asyncio.to_thread(path_now, loader.environment.general())
    return await asyncio.to_thread(installed, str(state.root), working_folder(), path=path)


def lost(before: Installed, now: Installed) -> tuple[Missing, ...]:
    """What is not installed as it was when a release was made."""
    return gone(one for one in differences(before, now) if not one.name.startswith("/"))


def explained(error: ConfigError, before: Installed, now: Installed) -> ConfigError:
    """Why a release cannot be imported any more, with what is missing since it was made."""
    missing = lost(before, now)
    if not missing:
        return error
    return ConfigError(f"{error.message}; since it ran: {listed(missing)}", remedy=remedy_of(missing, before))


def remedy_of(lost: tuple[Missing, ...], before: Installed) -> str:
    """How what a release was made with can be had again."""
    # Where it is missing: the environment that it was made in may be another one, and gone.
    command = way_back(lost, before, f"{sys.prefix}/bin/python", uv=is_uvs(sys.prefix))
    files = [one.name for one in lost if one.name.startswith("/")]
    ways = [f"`{command}` brings them back"] if command else []
    ways += [f"install {one} as it was" for one in from_here(lost, before)]
    ways += [f"bring {', '.join(files)} back as it was"] if files else []
    ways += ["install that Python again"] if any(one.name == "Python" for one in lost) else []
    return "; ".join(ways)

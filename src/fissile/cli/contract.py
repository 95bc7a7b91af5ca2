"""`fissile contract diff`: what the code in the folder would break for the callers that run now."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from fissile.orchestrator.release import Difference

contract = typer.Typer(help="Compare the contracts of components with those that run.", no_args_is_help=True)


@contract.callback()
def _group() -> None:
    """A command of its own name, though it is the only one yet."""


@contract.command()
def diff(
    release: Annotated[str, typer.Argument(help="one that is kept  [default: the code in the folder]")] = "",
    path: Annotated[Path, typer.Option(help="folder with fissile.toml")] = Path(),
    profile: Annotated[str | None, typer.Option(help="a profile from fissile.toml")] = None,
    json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Print what callers that run now could not live with, if that release or the code here ran; exit code 1 then."""
    import time

    import msgspec

    from fissile import daemon
    from fissile.cli.client import Client
    from fissile.cli.output import say, show
    from fissile.orchestrator.callers import Called
    from fissile.orchestrator.release import Surroundings, difference
    from fissile.supervisor.fleet import in_place

    client, settings = Client(path), daemon.settings_of(path, profile)
    running = daemon.release_from(client.get("/release"))
    if release:
        later = daemon.release_from(client.get(f"/release?name={release}"))
    else:
        later = daemon.release_here(settings, running.topology)
    calls = msgspec.convert(client.get("/callers"), dict[str, Called])
    found = difference(running, later, Surroundings(calls, in_place(running, later, settings), time.time()))
    if json:
        show(msgspec.to_builtins(found.breaks))
    else:
        say(as_text(found))
    if found.refused:
        raise typer.Exit(1)


def as_text(found: "Difference") -> str:
    """One break after the other: what, for whom, and the compatible way."""
    import msgspec

    lines = as_lines(msgspec.to_builtins(found.breaks))
    return "\n".join(lines if found.refused else [*lines, "every caller that runs can live with this code"])


def as_lines(breaks: list[dict[str, Any]]) -> list[str]:
    """Breaks as the API gives them."""
    lines: list[str] = []
    for one in breaks:
        broken = one["found"]
        where = f"{broken['method']}{', ' + broken['place'] if broken['place'] else ''}"
        lines.append(f"{where}: {broken['what']}")
        if not one["reasons"]:
            lines.append(f"  nobody is left who calls it: {one['note']}")
            continue
        if one["callers"]:
            lines.append(f"  called by {', '.join(one['callers'])}")
        lines += [f"  {reason}" for reason in one["reasons"]]
        lines.append(f"  → {broken['remedy']}")
    return lines

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
    import msgspec

    from fissile import daemon
    from fissile.cli.client import Client
    from fissile.cli.output import say, show
    from fissile.orchestrator.release import difference

    client = Client(path)
    running = daemon.release_from(client.get("/release"))
    if release:
        later = daemon.release_from(client.get(f"/release?name={release}"))
    else:
        later = daemon.release_here(daemon.settings_of(path, profile), running.topology)
    found = difference(running, later)
    if json:
        show(msgspec.to_builtins(found.breaks))
    else:
        say(as_text(found))
    if found.breaks:
        raise typer.Exit(1)


def as_text(found: "Difference") -> str:
    """One break after the other: what, for whom, and the compatible way."""
    if not found.breaks:
        return "every caller that runs can live with this code"
    import msgspec

    return "\n".join(as_lines(msgspec.to_builtins(found.breaks)))


def as_lines(breaks: list[dict[str, Any]]) -> list[str]:
    """Breaks as the API gives them."""
    lines: list[str] = []
    for one in breaks:
        broken = one["found"]
        where = f"{broken['method']}{', ' + broken['place'] if broken['place'] else ''}"
        lines += [f"{where}: {broken['what']}", f"  called by {', '.join(one['callers'])}", f"  → {broken['remedy']}"]
    return lines

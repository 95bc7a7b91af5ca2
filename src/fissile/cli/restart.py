"""`fissile restart`: new processes of the same code, without losing a request."""

from pathlib import Path
from typing import TYPE_CHECKING

from fissile.cli.arguments import Parser, for_programs, in_folder, why

if TYPE_CHECKING:
    from fissile.api.schema import Restarted

FILES_SHOWN = 5
USAGE = "[SERVICE] [OPTIONS]"


def arguments(parser: Parser) -> None:
    """What the command takes."""
    parser.option(
        "service",
        nargs="?",
        default="",
        metavar="SERVICE",
        help="a service, or a component in it  [default: all, one after another]",
    )
    in_folder(parser)
    parser.flag("--update-env", help="give them the environment of this shell, from now on")
    parser.flag("--accept-packages", help="accept that other packages are installed than it was deployed with")
    why(parser)
    for_programs(parser)


def restart(service: str, folder: Path, update_env: bool, accept_packages: bool, why: str, json: bool) -> None:
    """Replace a service's replicas: start new ones, then drain the old ones.

    They run the same release. What is read at import is read again: .env files, secrets, and settings outside the code.
    """
    from fissile.api.client import Client, environment_here
    from fissile.api.schema import RestartOrder
    from fissile.cli.naming import service_meant
    from fissile.cli.output import note, say, show, user
    from fissile.cli.progress import goes_on, replacing, watching

    order = RestartOrder(
        environment=environment_here() if update_env else "",
        packages=accept_packages,
        who=user(),
        why=why,
    )
    client = Client(folder)
    name = service_meant(service, client) if service else ""
    with (
        goes_on("the restart goes on: `fissile status` shows it"),
        watching("importing the code", lambda: replacing(client.status(), name), quiet=json),
    ):
        done = client.restart(name, order)
    if json:
        show(done)
        return
    say(_as_text(done))
    for warning in done.warnings:
        note(f"warning: {warning}")


def _as_text(done: "Restarted") -> str:
    lines: list[str] = []
    for service, count in done.services.items():
        lines.append(f"{service}: {count} {'replica' if count == 1 else 'replicas'} replaced")
    lines += [f"{service}: scaled to zero, nothing to restart" for service in done.asleep]
    read = list(done.read[:FILES_SHOWN])
    more = len(done.read) - len(read)
    anew = ", ".join([*read, *([f"{more} more files"] if more else [])])
    told = "; ".join(filter(None, (f"read again: {anew}" if anew else "", done.environment)))
    if told:
        lines = [f"{lines[0]}; {told}"] if len(lines) == 1 else [*lines, told]
    if done.others:
        lines.append(
            f"{', '.join(done.others)}: unchanged, with what was read earlier; `fissile restart` restarts all services"
        )
    return "\n".join(lines)

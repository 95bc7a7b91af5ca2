"""`fissile restart`: new processes of the same code, no request lost."""

from pathlib import Path
from typing import Any

from fissile.cli.arguments import Parser, for_programs, in_folder, why

# All services, one after another, each of which finishes its work.
RESTART_SECONDS_MAX = 3600.0
FILES_SHOWN = 5


USAGE = "[SERVICE] [OPTIONS]"


def arguments(parser: Parser) -> None:
    """What the command takes."""
    parser.option(
        "service",
        nargs="?",
        default="",
        metavar="SERVICE",
        help="its name, or that of a component in it  [default: all, one after another]",
    )
    in_folder(parser)
    parser.flag("--update-env", help="give them the environment of this shell, from now on")
    parser.flag("--accept-packages", help="though other packages are installed than it was deployed with")
    why(parser)
    for_programs(parser)


def restart(service: str, folder: Path, update_env: bool, accept_packages: bool, why: str, json: bool) -> None:
    """Replace a service's replicas: start new ones first, drain the old ones after.

    They run the same release. What is read at import is read anew: .env files, secrets, settings that are no code.
    """
    from fissile.cli.client import Client
    from fissile.cli.output import note, say, show, user
    from fissile.cli.progress import goes_on, replacing, watching

    order = {
        "environment": environment_here() if update_env else "",
        "packages": accept_packages,
        "who": user(),
        "why": why,
    }
    client = Client(folder)
    name = client.service(service) if service else ""
    with (
        goes_on("the restart goes on: `fissile status` shows it"),
        watching("the code is imported anew", lambda: replacing(client.get("/status"), name), quiet=json),
    ):
        done = client.post(f"/services/{name}/restart" if name else "/restart", order, seconds_max=RESTART_SECONDS_MAX)
    if json:
        show(done)
        return
    say(_as_text(done))
    for warning in done["warnings"]:
        note(f"warning: {warning}")


def environment_here() -> str:
    """The environment of this process, as the API takes it."""
    import base64
    import os

    from fissile.machine.procfs import VARIABLE

    lines = [name + b"=" + value + b"\0" for name, value in os.environb.items() if name != VARIABLE.encode()]
    return base64.b64encode(b"".join(lines)).decode()


def _as_text(done: dict[str, Any]) -> str:
    lines: list[str] = []
    for service, count in done["services"].items():
        lines.append(f"{service}: {count} {'replica' if count == 1 else 'replicas'} replaced")
    lines += [f"{service}: scaled to zero, nothing to restart" for service in done["asleep"]]
    read = done["read"][:FILES_SHOWN]
    more = len(done["read"]) - len(read)
    anew = ", ".join([*read, *([f"{more} more files"] if more else [])])
    told = "; ".join(filter(None, (f"read anew: {anew}" if anew else "", done["environment"])))
    if told:
        lines = [f"{lines[0]}; {told}"] if len(lines) == 1 else [*lines, told]
    if done["others"]:
        lines.append(
            f"{', '.join(done['others'])}: as they were, with what was read earlier; `fissile restart` restarts all"
        )
    return "\n".join(lines)

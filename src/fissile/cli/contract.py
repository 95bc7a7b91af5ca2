"""`fissile contract diff`: what the code in the folder would break for the callers that run now."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from fissile.cli.arguments import Parser, for_programs, in_folder, profile

if TYPE_CHECKING:
    from fissile.releases.release import Difference

USAGE = "[RELEASE] [OPTIONS]"
EXIT_BREAKS = 1


def arguments(parser: Parser) -> None:
    """What the command takes."""
    parser.option(
        "release", nargs="?", default="", metavar="RELEASE", help="one that is kept  [default: the code in the folder]"
    )
    in_folder(parser)
    profile(parser)
    for_programs(parser)


def diff(release: str, folder: Path, profile: str | None, json: bool) -> int:
    """Show which callers a change of contracts would break.

    Compares the code in the folder, or a release that is kept, with what runs. The exit code is 1 if it breaks any.
    """
    import time

    import msgspec

    from fissile import daemon
    from fissile.cli.client import Client
    from fissile.cli.output import say, show
    from fissile.orchestrator.deploy_rules import in_place
    from fissile.releases.callers import Called
    from fissile.releases.release import Surroundings, difference
    from fissile.supervisor.release_spec import spec_of

    client, settings = Client(folder), daemon.settings_of(folder, profile=profile)
    running = daemon.release_from(client.get("/release"))
    if release:
        later = daemon.release_from(client.get(f"/release?name={release}"))
    else:
        later = daemon.release_here(settings, running.topology)
    calls = msgspec.convert(client.get("/callers"), dict[str, Called])
    anew = in_place(spec_of(running, settings), spec_of(later, settings))
    found = difference(running, later, Surroundings(calls, frozenset(anew), time.time()))
    if json:
        show(msgspec.to_builtins(found.breaks))
    else:
        say(as_text(found))
    return EXIT_BREAKS if found.refused else 0


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

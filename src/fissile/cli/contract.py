"""`fissile contract diff`: what the code in the folder would break for running callers."""

from pathlib import Path
from typing import TYPE_CHECKING

from fissile.cli.arguments import Parser, for_programs, in_folder, profile

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fissile.api.schema import ContractBreak

USAGE = "[RELEASE] [OPTIONS]"
EXIT_BREAKS = 1


def arguments(parser: Parser) -> None:
    """What the command takes."""
    parser.option(
        "release",
        nargs="?",
        default="",
        metavar="RELEASE",
        help="a kept release  [default: the code in the folder]",
    )
    in_folder(parser)
    profile(parser)
    for_programs(parser)


def diff(release: str, folder: Path, profile: str | None, json: bool) -> int:
    """Show which running callers a change of contracts would break.

    Compare the code in the folder, or a kept release, with what runs. Exit with 1 if it breaks any caller.
    """
    from fissile.api.client import Client
    from fissile.cli.output import say, show
    from fissile.daemon.inspection import breaks
    from fissile.daemon.project import settings_of

    client, settings = Client(folder), settings_of(folder, profile=profile)
    kept = client.release(release) if release else None
    found = breaks(settings, client.release(), kept, client.callers())
    show(found) if json else say(as_text(found))
    return EXIT_BREAKS if any(one.reasons for one in found) else 0


def as_text(found: "Sequence[ContractBreak]") -> str:
    """One break after the other: what it is, who calls it, and the compatible way."""
    lines = as_lines(found)
    broken = any(one.reasons for one in found)
    return "\n".join(lines if broken else [*lines, "every running caller works with this code"])


def as_lines(breaks: "Iterable[ContractBreak]") -> list[str]:
    """Breaks as lines of text."""
    lines: list[str] = []
    for one in breaks:
        broken = one.found
        lines.append(f"{broken.method}{', ' + broken.place if broken.place else ''}: {broken.what}")
        if not one.reasons:
            lines.append(f"  nobody calls it any more: {one.note}")
            continue
        if one.callers:
            lines.append(f"  called by {', '.join(one.callers)}")
        lines += [f"  {reason}" for reason in one.reasons]
        lines.append(f"  → {broken.remedy}")
    return lines

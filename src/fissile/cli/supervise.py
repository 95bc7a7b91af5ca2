"""`fissile supervise`: what `up` starts in the background, and a unit of systemd."""

from pathlib import Path

from fissile.cli.arguments import Parser, whole
from fissile.cli.up import start

USAGE = "[MODULE:ATTRIBUTE] [OPTIONS]"
DESCRIPTOR_MAX = 2**31 - 1


def arguments(parser: Parser) -> None:
    """What the command takes."""
    start(parser)
    parser.flag("--resume", help="what ran before goes on in its own topology, whatever --topology says")
    parser.option(
        "--ready-fd",
        metavar="NUMBER",
        type=whole(0, DESCRIPTOR_MAX),
        default=-1,
        help="a descriptor that is told how the start went",
    )


def supervise(
    folder: Path,
    target: str,
    topology: str | None,
    port: int | None,
    profile: str | None,
    fresh: bool,
    resume: bool,
    ready_fd: int,
) -> None:
    """Be the supervisor of an application in the background: what `up` starts, and a unit of systemd."""
    from fissile.runtime.first import be_first

    be_first()
    from fissile import daemon
    from fissile.cli.output import note
    from fissile.supervisor.report import Report

    told = Report(ready_fd)
    with told.failures():
        settings = daemon.settings_of(folder, target, profile)
        daemon.supervise(settings, topology or "", port, told=told, say=note, fresh=fresh, resume=resume)

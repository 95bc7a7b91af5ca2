"""`fissile supervise`: what `fissile up` starts in the background, and systemd in a unit."""

from pathlib import Path

from fissile.cli.arguments import Parser, whole
from fissile.cli.up import start

USAGE = "[MODULE:ATTRIBUTE] [OPTIONS]"
DESCRIPTOR_MAX = 2**31 - 1


def arguments(parser: Parser) -> None:
    """What the command takes."""
    start(parser)
    parser.flag("--resume", help="keep the topology of what ran before, whatever --topology says")
    parser.option(
        "--ready-fd",
        metavar="NUMBER",
        type=whole(0, DESCRIPTOR_MAX),
        default=-1,
        help="a descriptor to report the result of the start on",
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
    """Supervise an application, as `fissile up` and a systemd unit start it."""
    from fissile.runtime.first import be_first

    # Before anything else is imported: as process 1 of a container, this forks, and the parent only reaps.
    be_first()
    from fissile.cli.output import note
    from fissile.daemon import supervision
    from fissile.daemon.project import settings_of

    report = supervision.Report(ready_fd)
    with report.failures():
        settings = settings_of(folder, target, profile)
        supervision.supervise(settings, topology or "", port, report=report, log=note, fresh=fresh, resume=resume)

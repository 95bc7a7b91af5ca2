"""`fissile up`: the application in the background, each service looked after."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from fissile.errors import FissileError

Target = Annotated[str, typer.Argument(help="folder with fissile.toml, or module:attribute")]
Topology = Annotated[str | None, typer.Option(help="monolith, microservices, or a name from fissile.toml")]
Port = Annotated[
    int | None,
    typer.Option(min=0, max=65535, help="of the public page; 0: any free one  [default: 8000, or any free one]"),
]
Profile = Annotated[str | None, typer.Option(help="a profile from fissile.toml")]
FRESH = "begin with the code in the folder, though nobody has stopped what ran last"


def up(
    path: Target = ".",
    topology: Topology = None,
    port: Port = None,
    profile: Profile = None,
    systemd: Annotated[
        bool, typer.Option("--systemd", help="print a unit file for systemd, and start nothing")
    ] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help=FRESH)] = False,
    json: Annotated[bool, typer.Option("--json", help="print the endpoints as JSON")] = False,
) -> None:
    """Start the application in the background; take it over if its supervisor has died.

    What ended without `fissile down`, as in a power cut, goes on with the release that ran last. Ctrl-C before all is
    up ends what was begun, with exit code 130.
    """
    import msgspec

    from fissile import daemon
    from fissile.cli import EXIT_INTERRUPTED
    from fissile.cli.output import complain, note, say, show
    from fissile.cli.progress import Waits
    from fissile.cli.run import announce
    from fissile.errors import FissileError

    settings = daemon.settings_of(path, profile)
    options = _options(path, topology, port, profile)
    if systemd:
        say(unit(Path(settings.root), options))
        return
    waits = Waits(quiet=json)
    try:
        with waits:
            endpoints = daemon.up(settings, [*options, *(["--fresh"] if fresh else [])], waits)
    except daemon.GivenUp as given_up:
        complain(given_up.message)
        raise typer.Exit(EXIT_INTERRUPTED) from None
    except FissileError as error:
        if json:
            show(as_json(error))
        raise
    if json:
        say(msgspec.json.format(msgspec.json.encode(endpoints)).decode())
    else:
        announce(endpoints, how_to_stop="`fissile down` stops it")
        for warning in endpoints.warnings:
            note(f"warning: {warning}")
        if endpoints.resumed:
            note(f"release {endpoints.release} goes on, as it ran last; `fissile deploy` brings the code in the folder")


def supervise(
    path: Target = ".",
    topology: Topology = None,
    port: Port = None,
    profile: Profile = None,
    fresh: Annotated[bool, typer.Option("--fresh", help=FRESH)] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="what ran before goes on in its own topology, whatever --topology says")
    ] = False,
    ready_fd: Annotated[int, typer.Option(help="a descriptor that is told how the start went")] = -1,
) -> None:
    """Be the supervisor of an application in the background: what `up` starts, and a unit of systemd."""
    from fissile.runtime.first import be_first

    be_first()
    from fissile import daemon
    from fissile.cli.output import note
    from fissile.supervisor.report import Report

    told = Report(ready_fd)
    with told.failures():
        settings = daemon.settings_of(path, profile)
        daemon.supervise(settings, topology or "", port, told=told, say=note, fresh=fresh, resume=resume)


def as_json(error: "FissileError") -> dict[str, object]:
    """A start that failed. service, last_lines: where it was one service that did, and what its process had printed."""
    service, lines = getattr(error, "service", ""), getattr(error, "last_lines", ())
    return {"error": error.message, "remedy": error.remedy, "service": service, "last_lines": list(lines)}


def _options(path: str, topology: str | None, port: int | None, profile: str | None) -> list[str]:
    options = [str(Path(path).resolve()) if Path(path).exists() else path]
    for name, value in (("--topology", topology), ("--port", port), ("--profile", profile)):
        if value is not None:
            options += [name, str(value)]
    return options


def unit(root: Path, options: list[str]) -> str:
    """A systemd unit (systemd.service(5)). Killed or not, the supervisor alone is restarted: replicas go on.

    After a reboot the release that ran last goes on, in its topology: the options are those of the first start.
    """
    import shlex
    import sys

    command = shlex.join([sys.executable, "-m", "fissile", "supervise", *options, "--resume"])
    return f"""[Unit]
Description=Fissile: {root.name}
After=network.target

[Service]
Type=notify
WorkingDirectory={root}
ExecStart={command}
Restart=always
RestartSec=1
KillMode=process
TimeoutStopSec=60
# The supervisor may make control groups of its own, by which limits are held.
Delegate=yes

[Install]
WantedBy=multi-user.target"""

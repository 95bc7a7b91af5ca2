"""`fissile up`: the application in the background, each service looked after."""

from pathlib import Path

from fissile.cli.arguments import Parser, for_programs, port, profile, target, topology

USAGE = "[MODULE:ATTRIBUTE] [OPTIONS]"


def arguments(parser: Parser) -> None:
    """What the command takes."""
    start(parser)
    parser.flag("--systemd", help="print a unit file for systemd, and start nothing")
    for_programs(parser, "print the endpoints as JSON")


def start(parser: Parser) -> None:
    """How an application is started: of `up`, and of the supervisor that it starts."""
    target(parser)
    topology(parser)
    port(parser)
    profile(parser)
    parser.flag("--fresh", help="begin with the code in the folder, though nobody has stopped what ran last")


def up(
    folder: Path,
    target: str,
    topology: str | None,
    port: int | None,
    profile: str | None,
    fresh: bool,
    systemd: bool,
    json: bool,
) -> int:
    """Start the application in the background, each service looked after.

    Takes over what runs if its supervisor has died. What ended without `fissile down`, as in a power cut, goes on
    with the release that ran last. Ctrl-C before all is up ends what was begun, with exit code 130.
    """
    import msgspec

    from fissile import daemon
    from fissile.cli import EXIT_INTERRUPTED
    from fissile.cli.output import complain, note, say
    from fissile.cli.progress import Waits
    from fissile.cli.run import announce

    folder, target = daemon.placed(folder, target)
    settings = daemon.settings_of(folder, target, profile)
    options = _options(folder, target, topology, port, profile)
    if systemd:
        say(unit(Path(settings.named or settings.root), options))
        return 0
    waits = Waits(quiet=json)
    try:
        with waits:
            endpoints = daemon.up(settings, [*options, *(["--fresh"] if fresh else [])], waits)
    except daemon.GivenUp as given_up:
        complain(given_up.message)
        return EXIT_INTERRUPTED
    if json:
        say(msgspec.json.format(msgspec.json.encode(endpoints)).decode())
    else:
        announce(endpoints, how_to_stop="`fissile down` stops it")
        for warning in endpoints.warnings:
            note(f"warning: {warning}")
        if endpoints.resumed:
            note(f"release {endpoints.release} goes on, as it ran last; `fissile deploy` brings the code in the folder")
    return 0


def _options(folder: Path, target: str, topology: str | None, port: int | None, profile: str | None) -> list[str]:
    from fissile.runtime.named import as_named

    options = ["-C", str(as_named(folder)), *([target] if target else [])]
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

    command = shlex.join([sys.executable, "-P", "-m", "fissile", "supervise", *options, "--resume"])
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

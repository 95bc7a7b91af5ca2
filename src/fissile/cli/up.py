"""`fissile up`: the application in the background, under a supervisor."""

from pathlib import Path

from fissile.cli.arguments import Parser, for_programs, port, profile, target, topology

# As long as `fissile down` waits.
STOP_SECONDS_LEAST = 60
USAGE = "[MODULE:ATTRIBUTE] [OPTIONS]"


def arguments(parser: Parser) -> None:
    """What the command takes."""
    start(parser)
    parser.flag("--systemd", help="print a systemd unit file; start nothing")
    parser.flag("--user", help="with --systemd: a unit of this user's own manager")
    for_programs(parser, "print the endpoints as JSON")


def start(parser: Parser) -> None:
    """How an application is started: of `up`, and of the supervisor that it starts."""
    target(parser)
    topology(parser)
    port(parser)
    profile(parser)
    parser.flag("--fresh", help="start the code in the folder, even if what ran last was never stopped")


def up(
    folder: Path,
    target: str,
    topology: str | None,
    port: int | None,
    profile: str | None,
    fresh: bool,
    systemd: bool,
    user: bool,
    json: bool,
) -> int:
    """Start the application in the background, and supervise it.

    If its supervisor has died, take over what runs. After an end without `fissile down`, such as a power cut, go on
    with the release that ran last. Ctrl-C before everything is up stops what was started, and exits with 130.
    """
    import getpass

    import msgspec

    from fissile.cli import EXIT_INTERRUPTED
    from fissile.cli.output import complain, note, say
    from fissile.cli.progress import Progress
    from fissile.cli.run import announce
    from fissile.daemon import background
    from fissile.daemon.project import placed, settings_of

    folder, target = placed(folder, target)
    settings = settings_of(folder, target, profile)
    options = _options(folder, target, topology, port, profile)
    if systemd:
        drain = max((one.drain_seconds for one in settings.services.values()), default=0.0)
        root = Path(settings.named or settings.root)
        say(unit(root, options, whose="" if user else getpass.getuser(), drain_seconds=drain))
        for line in placing(root.name, user=user):
            note(line)
        return 0
    try:
        with Progress(quiet=json) as progress:
            endpoints = background.up(settings, [*options, *(["--fresh"] if fresh else [])], progress)
    except background.GivenUp as given_up:
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


def placing(name: str, *, user: bool) -> list[str]:
    """Where a unit belongs, and how it is enabled."""
    place, manager = ("~/.config/systemd/user", "systemctl --user") if user else ("/etc/systemd/system", "systemctl")
    lines = [f"save this as {place}/{name}.service, then: {manager} daemon-reload && {manager} enable --now {name}"]
    if user:
        lines.append("so that it runs while you are logged out: loginctl enable-linger")
    return lines


def unit(root: Path, options: list[str], *, whose: str, drain_seconds: float) -> str:
    """A systemd unit (systemd.service(5)). Killed or not, the supervisor alone is restarted: replicas go on.

    After a reboot the release that ran last goes on, in its topology: the options are those of the first start.
    whose: the user it runs as; "": whoever's manager runs it. drain_seconds: the longest of any service.
    """
    import shlex
    import sys

    command = shlex.join([sys.executable, "-P", "-m", "fissile", "supervise", *options, "--resume"])
    # A percent sign begins a specifier, and a dollar sign a variable (systemd.unit(5), systemd.service(5)).
    command = command.replace("%", "%%").replace("$", "$$")
    # Callers stop before callees, so that several services drain one after the other.
    stop = max(STOP_SECONDS_LEAST, round(3 * drain_seconds))
    # A user's own manager has no network-online.target.
    network = "Wants=network-online.target\nAfter=network-online.target\n" if whose else ""
    return f"""[Unit]
Description=Fissile: {root.name}
{network}
[Service]
Type=notify
{f"User={whose}" if whose else ""}
WorkingDirectory={str(root).replace("%", "%%")}
ExecStart={command}
Restart=always
RestartSec=1
# The supervisor alone is killed: its replicas go on, and the next one adopts them.
KillMode=process
TimeoutStopSec={stop}
# The supervisor may make control groups of its own, by which limits are held.
Delegate=yes

[Install]
WantedBy={"multi-user.target" if whose else "default.target"}"""

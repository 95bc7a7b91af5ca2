"""`fissile rollback`: back to an earlier release, whatever the folder holds now."""

from pathlib import Path

from fissile.cli.arguments import Parser, for_programs, in_folder, why
from fissile.cli.deploy import trial

USAGE = "[RELEASE] [OPTIONS]"


def arguments(parser: Parser) -> None:
    """What the command takes."""
    parser.option(
        "release",
        nargs="?",
        default="",
        metavar="RELEASE",
        help="its name, or a prefix of it  [default: the one before]",
    )
    in_folder(parser)
    trial(parser)
    parser.flag("--accept-packages", help="accept that other packages are installed than it was deployed with")
    why(parser)
    for_programs(parser)


def rollback(
    release: str,
    folder: Path,
    canary: str | None,
    watch: str | None,
    wait: bool,
    accept_packages: bool,
    why: str,
    json: bool,
) -> int:
    """Move every request back to an earlier release.

    If a rollout is under way and undecided, abort it instead.
    """
    from fissile.api.client import Client
    from fissile.api.schema import RollbackOrder
    from fissile.cli.deploy import begin, seconds_of, share_of
    from fissile.cli.output import say, show, user
    from fissile.cli.progress import preparing

    client = Client(folder)
    order = RollbackOrder(
        release=release,
        canary=share_of(canary),
        watch_seconds=seconds_of(watch),
        packages=accept_packages,
        who=user(),
        why=why,
    )
    with preparing(client, quiet=json):
        begun = client.rollback(order)
    if begun is not None:
        return begin(client, begun, wait=wait, json=json)
    show({}) if json else say("aborted the rollout under way")
    return 0

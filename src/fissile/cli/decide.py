"""`fissile promote` and `fissile abort`: a person decides about a rollout."""

from pathlib import Path

from fissile.cli.arguments import Parser, in_folder, whole, why

USAGE = "[NUMBER] [OPTIONS]"
NUMBER_MAX = 10**18 - 1


def arguments(parser: Parser) -> None:
    """What both take."""
    parser.option(
        "number",
        nargs="?",
        metavar="NUMBER",
        type=whole(0, NUMBER_MAX),
        help="number of the rollout  [default: the one under way]",
    )
    in_folder(parser)
    why(parser)


def promote(number: int | None, folder: Path, why: str) -> None:
    """Give every request to the new release."""
    _decide(number, folder, why, promoted=True)


def abort(number: int | None, folder: Path, why: str) -> None:
    """Abort the rollout: every request goes back to the old release."""
    _decide(number, folder, why, promoted=False)


def _decide(number: int | None, folder: Path, why: str, *, promoted: bool) -> None:
    from fissile.api.client import Client
    from fissile.api.schema import DecideOrder
    from fissile.cli.output import say, user

    client, order = Client(folder), DecideOrder(rollout=number, who=user(), why=why)
    if promoted:
        client.promote(order)
    else:
        client.abort(order)
    say("promoted" if promoted else "rolling back")

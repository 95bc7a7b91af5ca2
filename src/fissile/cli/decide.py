"""`fissile promote` and `fissile abort`: a person decides what becomes of a release that is watched."""

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
        help="of the rollout that is meant  [default: the one under way]",
    )
    in_folder(parser)
    why(parser)


def promote(number: int | None, folder: Path, why: str) -> None:
    """Give all requests to the new release, which is good."""
    _decide("promote", number, folder, why)


def abort(number: int | None, folder: Path, why: str) -> None:
    """Give a rollout up: all requests go back to the release before it."""
    _decide("abort", number, folder, why)


def _decide(what: str, number: int | None, folder: Path, why: str) -> None:
    from fissile.cli.client import Client
    from fissile.cli.output import say, user

    Client(folder).post(f"/{what}", {"rollout": number, "who": user(), "why": why})
    say("promoted" if what == "promote" else "it is taken back")

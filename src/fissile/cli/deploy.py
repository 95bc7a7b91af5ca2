"""`fissile deploy`: the code in the folder replaces what runs, service by service, without losing a request."""

from pathlib import Path
from typing import TYPE_CHECKING

from fissile.cli.arguments import Parser, for_programs, in_folder, topology, why

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fissile.api.client import Client
    from fissile.api.schema import Deploy, Difference, Outcome

USAGE = "[OPTIONS]"
SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def arguments(parser: Parser) -> None:
    """What the command takes."""
    in_folder(parser, place=True)
    topology(parser, "change the topology: monolith, microservices, or a name from fissile.toml")
    trial(parser)
    parser.option(
        "--sticky", default="", metavar="HOW", help="keep a client in one release: cookie, or a header's name"
    )
    parser.flag("--plan", help="print which services would be replaced, and why; change nothing")
    parser.flag("--accept-breaks", help="deploy despite breaking contract changes")
    parser.flag("--force", help="replace all services, even unchanged ones")
    parser.flag("--update-env", help="give new replicas the environment of this shell, from now on")
    parser.option("--expect", default="", metavar="RELEASE", help="refuse if another release runs")
    why(parser)
    for_programs(parser)


def trial(parser: Parser) -> None:
    """How a deploy or a rollback tries a release."""
    parser.option("--canary", metavar="SHARE", help="send this share of requests to the new release first, such as 5%%")
    parser.option(
        "--watch",
        metavar="TIME",
        help="how long to compare it with the old release, such as 60s or 5m  [default: 60s with --canary]",
    )
    parser.flag(
        "--wait",
        help="wait until the old release has ended; exit with 1 if the new one is rolled back, 3 if it is undecided",
    )


def deploy(
    folder: Path,
    topology: str | None,
    canary: str | None,
    watch: str | None,
    wait: bool,
    sticky: str,
    plan: bool,
    accept_breaks: bool,
    expect: str,
    force: bool,
    update_env: bool,
    why: str,
    json: bool,
) -> int:
    """Deploy the code in the folder, without losing a request.

    Services whose build has not changed keep running.

    Exit codes: 0 done or under way; 1 refused, failed or rolled back; 2 a mistake in the command or in fissile.toml;
    3 with --wait: undecided; decide with `fissile promote` or `fissile abort`.
    """
    from fissile.api.client import Client, environment_here
    from fissile.api.schema import DeployOrder
    from fissile.cli.output import show, user
    from fissile.cli.progress import preparing

    order = DeployOrder(
        topology=topology,
        canary=share_of(canary),
        watch_seconds=seconds_of(watch),
        sticky=sticky,
        breaks=accept_breaks,
        expect=expect,
        plan=plan,
        force=force,
        environment=environment_here() if update_env else "",
        who=user(),
        why=why,
    )
    client = Client(folder)
    with preparing(client, quiet=json):
        found = client.deploy(order)
    if plan:
        show(found) if json else _print_plan(found)
        return 0
    return begin(client, found, wait=wait, json=json)


def begin(client: "Client", found: "Deploy", *, wait: bool, json: bool) -> int:
    """Show what a deploy or rollback does, and how it ends; the exit code."""
    import msgspec

    from fissile.cli.output import note, say, show
    from fissile.cli.progress import conclude, exit_code, follow, goes_on

    number, later, earlier = found.rollout, found.release, found.earlier
    if number is None:
        if json:
            show(found)
            return 0
        say(f"release {later} already serves: nothing to do")
        for line in (*found.warnings, *_what_counts(found.stale)):
            note(line)
        return 0
    told = f"rollout {number} goes on: `fissile status` shows it, `fissile abort` or `fissile rollback` rolls it back"
    if json:
        with goes_on(told):
            outcome = client.outcome(number)
            while wait and not (outcome.over or outcome.undecided):
                outcome = _later(client, number)
        show({**msgspec.to_builtins(found), "outcome": msgspec.to_builtins(outcome)})
        return exit_code(outcome, waited=wait)
    say(f"rollout {number}: release {earlier} → {later}, {_summary(found.difference)}")
    for warning in found.warnings:
        note(warning)
    with goes_on(told):
        outcome = follow(client, number, to_the_end=wait)
    return conclude(outcome, earlier=earlier, later=later, waited=wait)


def _what_counts(stale: "Sequence[str]") -> list[str]:
    """Why a file that somebody has altered may be no reason to start anything."""
    anew = "`fissile restart` or `fissile deploy --force`"
    if stale:
        return [
            f"{', '.join(stale)} changed since the services started, and {'is' if len(stale) == 1 else 'are'} of no "
            f"release: {anew} has {'it' if len(stale) == 1 else 'them'} read anew"
        ]
    return [
        f"what counts: code, fissile.toml, packages, lock files; .env and the environment do not: {anew} reads .env "
        "anew, with --update-env the environment, too"
    ]


def _later(client: "Client", number: int) -> "Outcome":
    import time

    from fissile.cli.progress import POLL_SECONDS

    time.sleep(POLL_SECONDS)
    return client.outcome(number)


def _summary(difference: "Difference") -> str:
    anew = [change.service for change in difference.changes if change.what != "gone"]
    gone = [change.service for change in difference.changes if change.what == "gone"]
    parts = [f"starts {', '.join(anew)}"] if anew else []
    parts += [f"ends {', '.join(gone)}"] if gone else []
    if difference.unchanged:
        parts.append(f"leaves {', '.join(difference.unchanged)}")
    return "; ".join(parts)


REASONS_SHOWN = 5
CHANGES = {"new": "is new", "changed": "starts anew", "gone": "ends"}


def _print_plan(found: "Deploy") -> None:
    from fissile.cli.contract import as_lines
    from fissile.cli.output import note, say

    difference = found.difference
    say(f"release {found.earlier} → {found.release}, as {found.topology}")
    width = max((len(change.service) for change in difference.changes), default=0)
    for change in difference.changes:
        say(f"  {change.service:<{width}}  {CHANGES[change.what]}")
        for reason in change.reasons[:REASONS_SHOWN]:
            say(f"  {'':<{width}}    {reason}")
        if len(change.reasons) > REASONS_SHOWN:
            say(f"  {'':<{width}}    and {len(change.reasons) - REASONS_SHOWN} more")
    if difference.unchanged:
        say(f"  not touched: {', '.join(difference.unchanged)}")
    if not difference.changes:
        say("  nothing starts anew")
    for line in found.code:
        say(f"  {line}")
    for warning in found.warnings:
        note(warning)
    if difference.refused:
        say("  callers that run now would break with it:")
        for line in as_lines(difference.refused):
            say(f"    {line}")


def share_of(text: str | None) -> float | None:
    """ "5%" as 0.05. Raises ConfigError."""
    from fissile.errors import ConfigError

    if text is None:
        return None
    try:
        return float(text.removesuffix("%")) / 100.0
    except ValueError:
        raise ConfigError(f"invalid share of requests {text!r}", remedy="write a percentage, such as 5%") from None


def seconds_of(text: str | None) -> float | None:
    """ "60s" as 60.0. Raises ConfigError."""
    from fissile.errors import ConfigError

    if text is None:
        return None
    number = text.rstrip("hms")
    try:
        return float(number) * SECONDS[text[len(number) :] or "s"]
    except (ValueError, KeyError):
        raise ConfigError(f"invalid duration {text!r}", remedy="write 60s, 5m or 1h") from None

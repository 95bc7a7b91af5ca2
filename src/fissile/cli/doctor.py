"""`fissile doctor`: whether this machine has what the application needs, and what to do where it has not."""

from pathlib import Path

from fissile.cli.arguments import Parser, for_programs, in_folder, profile

USAGE = "[OPTIONS]"


def arguments(parser: Parser) -> None:
    """What the command takes."""
    in_folder(parser, place=True)
    profile(parser)
    for_programs(parser)


def doctor(folder: Path, profile: str | None, json: bool) -> int:
    """Look whether this machine has what the application needs.

    Versions, control groups, Landlock, ports, limits, the disk, time zones and the clock: each is ok, a warning
    or a fault, with its consequence and the remedy. Works without an application, too. Exit code 1 where there is a
    fault.
    """
    from fissile.cli import EXIT_FAILED
    from fissile.cli.output import say, show
    from fissile.doctor import State, diagnose

    checks = diagnose(folder, profile)
    faults = [one for one in checks if one.state is State.FAULT]
    if json:
        import msgspec

        show({"ok": not faults, "checks": msgspec.to_builtins(checks)})
        return EXIT_FAILED if faults else 0
    width = max(len(one.name) for one in checks)
    for one in checks:
        first, *rest = one.found.split("\n")
        say(f"{one.state:<7}  {one.name:<{width}}  {first}")
        indent = " " * (width + 11)
        for line in rest:
            say(f"{indent}{line}")
        if one.consequence:
            say(f"{indent}{one.consequence}\n{indent}→ {one.remedy}")
    warnings = sum(one.state is State.WARNING for one in checks)
    say(f"{_count(len(faults), 'fault')}, {_count(warnings, 'warning')}")
    return EXIT_FAILED if faults else 0


def _count(number: int, what: str) -> str:
    return f"{number or 'no'} {what}{'' if number == 1 else 's'}"

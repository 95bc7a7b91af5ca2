"""The command line: one file per command, which parses, calls what is below, and prints.

Every error of the user's is one message with the next step, exit code 2 and no traceback. Start
reading at `run`.
"""

import sys

import typer

from fissile.cli import call, graph, restart, run, status
from fissile.errors import CallError, FissileError

app = typer.Typer(
    name="fissile",
    help="One Python application, run as a monolith, as microservices, or anything between.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (run, graph, call, status, restart):
    command.register(app)


def main() -> None:
    """The entry point of the `fissile` command."""
    try:
        app()
    except FissileError as error:
        print(f"fissile: {error}", file=sys.stderr)
        sys.exit(1 if isinstance(error, CallError) else 2)

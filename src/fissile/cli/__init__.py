"""SHELL. The command line: one file per command; each parses, asks `daemon`, prints.

May touch the terminal. Commands import what they need when they run, so that the command line starts
fast. An error of the user's is one message with the next step, no traceback. Start reading at `run`.
"""

import os
import sys

EXIT_FAILED = 1
EXIT_MISTAKE = 2
EXIT_INTERRUPTED = 130


def stand_in_for_closed() -> None:
    """Give this process a standard input, output and error of nothing where its parent has closed them.

    Else the next sockets get these numbers: libuv aborts when it closes one, and others are written to.
    """
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest number that is free: this one
    for name, fd, mode in (("stdin", 0, "r"), ("stdout", 1, "w"), ("stderr", 2, "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(fd, mode, closefd=False))  # noqa: SIM115 -- for as long as the process lives


def main() -> None:
    """The command `fissile`. Exit codes: 1 a call or restart failed, 2 a mistake that the user can mend."""
    stand_in_for_closed()
    import typer

    from fissile.cli import (
        call,
        contract,
        decide,
        deploy,
        down,
        graph,
        history,
        logs,
        releases,
        restart,
        rollback,
        run,
        scale,
        status,
        up,
    )
    from fissile.cli.client import Refused
    from fissile.cli.output import complain
    from fissile.errors import CallError, FissileError

    app = typer.Typer(
        name="fissile",
        help="One Python application, run as a monolith, as microservices, or anything between.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    for name, command in {
        "run": run.run,
        "up": up.up,
        "down": down.down,
        "graph": graph.graph,
        "call": call.call,
        "status": status.status,
        "logs": logs.logs,
        "scale": scale.scale,
        "restart": restart.restart,
        "deploy": deploy.deploy,
        "promote": decide.promote,
        "abort": decide.abort,
        "rollback": rollback.rollback,
        "releases": releases.releases,
        "history": history.history,
    }.items():
        app.command(name)(command)
    app.add_typer(contract.contract, name="contract")
    app.command("supervise", hidden=True)(up.supervise)
    try:
        app()
    except FissileError as error:
        complain(str(error))
        sys.exit(EXIT_FAILED if isinstance(error, (CallError, Refused)) else EXIT_MISTAKE)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)

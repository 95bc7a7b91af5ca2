"""`fissile status`: the services of a running application and their processes."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fissile.cli.arguments import Parser, for_programs, in_folder
from fissile.cli.output import in_line
from fissile.cli.table import Cell, Column, Row, duration, styled, table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fissile.api.schema import ReplicaStatus, RestartStatus, ServiceStatus, SupervisorStatus

WATCH_SECONDS = 0.5
USAGE = "[OPTIONS]"


def arguments(parser: Parser) -> None:
    """What the command takes."""
    in_folder(parser, place=True)
    parser.flag("--watch", "-w", help="go on, until Ctrl-C")
    for_programs(parser)


def status(folder: Path, watch: bool, json: bool) -> None:
    """Show what runs: each service, its replicas and its limits.

    Exit codes: 0 a supervisor answered; 1 it does not answer; 2 nothing runs, or nothing supervises it: `state` of the
    JSON says which.
    """
    from fissile.api.client import Client
    from fissile.cli.output import coloured, redraw, say, show, width

    client = Client(folder)
    if not watch:
        found = client.status()
        show(found) if json else say(as_text(found, width=width(), colour=coloured()))
        return
    while True:
        found = client.status()
        show(found, one_line=True) if json else redraw(as_text(found, width=width(), colour=coloured()))
        time.sleep(WATCH_SECONDS)


def _limits(found: "Mapping[str, Any]") -> str:
    told = [
        f"{name} {' '.join(map(str, value)) or 'temporary' if name == 'disk' else value}"
        for name, value in found.items()
        if value is not None and name != "enforced_by"
    ]
    return ", ".join(told) + (f" ({found['enforced_by']})" if found["enforced_by"] else "")


def _walls(service: "ServiceStatus") -> str:
    """Which walls stand around a service, and what this machine cannot do."""
    missing = [f"no wall for {name}: {why}" for name, why in service.walls_missing.items()]
    return "; ".join([f"{service.isolation}: {', '.join(service.walls)}", *missing])


SERVICES = (Column("SERVICE"), Column("READY"), Column("RESTARTS", number=True), Column("LIMITS"))
REPLICAS = (
    Column("REPLICA"),
    Column("STATE"),
    Column("AGE", number=True),
    Column("PID", number=True),
    Column("BUILD"),
    Column("IN FLIGHT", number=True),
    Column("LAG", number=True),
    Column("MEMORY", number=True),
    Column("NOTE"),
)
STATES = {"ready": "good", "starting": "busy", "draining": "busy", "failed": "bad"}


def as_text(found: "SupervisorStatus", *, width: int | None = None, colour: bool = False) -> str:
    """The status for people. width: of the terminal; None where there is none. colour: whether it shows colours."""
    services = found.services
    parts = [
        "\n".join(_head(found, colour)),
        table(SERVICES, map(_service, services), width=width, colour=colour),
        "\n".join(line for service in services for line in _notes(service, colour)),
        table(
            REPLICAS,
            [row for service in services for row in map(_replica(service), service.replicas)],
            width=width,
            colour=colour,
        ),
    ]
    return "\n\n".join(part for part in parts if part)


def _head(found: "SupervisorStatus", colour: bool) -> list[str]:
    """What is to be said of the whole."""
    supervisor, rollout = found.supervisor, found.rollout
    lines = [f"{found.application} as {found.topology}, release {found.release}, pid {supervisor.pid}"]
    if found.journal:
        lines.append(_trouble(f"the journal cannot be written: {found.journal}", colour))
    if supervisor.trouble:
        lines.append(_trouble(supervisor.trouble, colour))
    if found.preparing:
        lines.append(f"under way: {in_line(found.preparing)}; nothing is touched yet")
    lines += told_of(found.restarts)
    if rollout is not None:
        stage = rollout.stage.replace("-", " ")
        lines.append(
            f"rollout {rollout.number}: release {rollout.earlier} → {rollout.later}, {stage}: "
            f"{rollout.share:.0%} of new requests; {rollout.waits or rollout.reason}"
        )
    return lines


def told_of(restarts: "Sequence[RestartStatus]") -> Iterator[str]:
    """Which restart is under way, and which wait for it."""
    for one in restarts:
        stands = "waits for the one before it" if one.waiting else "is under way"
        yield f"restart of {one.service or 'all services'} by {in_line(one.who)} {stands}"


def _trouble(text: str, colour: bool) -> str:
    return styled(f"! {in_line(text)}", "bad", colour=colour)


def _service(service: "ServiceStatus") -> Row:
    scale = service.scale
    wanted = f"{scale.wanted}"
    if scale.zero_by:
        wanted += f" (scaled to zero by {in_line(scale.zero_by)})"
    elif scale.min != scale.max:
        wanted += f" of {scale.min}..{scale.max}"
    ready = sum(replica.state == "ready" for replica in service.replicas)
    style = "good" if ready >= scale.wanted else "busy" if ready else "bad"
    restarts = Cell(str(service.restarts), "busy" if service.restarts else "")
    return service.name, Cell(f"{ready}/{wanted}", style), restarts, _limits(service.limits)


def _notes(service: "ServiceStatus", colour: bool) -> Iterable[str]:
    """What is to be said of a service beside the table; each line begins with whom it is about."""
    name = service.name
    if service.isolation != "none":
        yield f"{name} is {_walls(service)}"
    if waits := service.waits:
        yield f"{name} is started once {', '.join(waits)} {'serves' if len(waits) == 1 else 'serve'}"
    if service.trouble:
        yield _trouble(f"{name}: {service.trouble}", colour)
        yield from (f"  {name} | {in_line(line)}" for line in service.last_lines)
    if service.wire_differences:
        count = len(service.wire_differences)
        things = "1 thing" if count == 1 else f"{count} things"
        yield _trouble(
            f"{name}: {things} would be different across a wire: see `fissile status --json`, or "
            f"WireDifferenceFound in `fissile history {name}`",
            colour,
        )


def _replica(service: "ServiceStatus") -> "Callable[[ReplicaStatus], Row]":
    def row(replica: "ReplicaStatus") -> Row:
        age, memory = replica.age_seconds, replica.memory_bytes
        load, lag = replica.in_flight, replica.lag_seconds
        return (
            f"{service.name}.{replica.slot}",
            Cell(replica.state, STATES.get(replica.state, "")),
            duration(age) if age is not None else "",
            str(replica.pid or "-"),
            replica.build,
            f"{load:.0f}" if load is not None else "",
            f"{lag * 1000:.0f} ms" if lag is not None else "",
            f"{memory / 2**20:.0f} MiB" if memory else "",
            Cell(in_line(replica.stuck or replica.listener), "bad" if replica.stuck else ""),
        )

    return row

"""`fissile status`: the services of a running application and their processes."""

import time
from pathlib import Path
from typing import Any

from fissile.cli.arguments import Parser, for_programs, in_folder

WATCH_SECONDS = 0.5
USAGE = "[OPTIONS]"


def arguments(parser: Parser) -> None:
    """What the command takes."""
    in_folder(parser, place=True)
    parser.flag("--watch", "-w", help="go on, until Ctrl-C")
    for_programs(parser)


def status(folder: Path, watch: bool, json: bool) -> None:
    """Show what runs: each service, its replicas and its limits."""
    from fissile.cli.client import Client
    from fissile.cli.output import say, show

    client = Client(folder)
    if not watch:
        found = client.get("/status")
        show(found) if json else say(as_text(found))
        return
    from rich.live import Live
    from rich.text import Text

    with Live(Text(""), auto_refresh=False) as live:
        while True:
            found = client.get("/status")
            if json:
                show(found, one_line=True)
            else:
                live.update(Text(as_text(found)), refresh=True)
            time.sleep(WATCH_SECONDS)


def _limits(found: dict[str, Any]) -> str:
    told = [
        f"{name} {' '.join(map(str, value)) or 'temporary' if name == 'disk' else value}"
        for name, value in found.items()
        if value is not None and name != "enforced_by"
    ]
    return ", ".join(told) + (f" ({found['enforced_by']})" if found["enforced_by"] else "")


def _walls(service: dict[str, Any]) -> str:
    """Which walls stand around a service, and what this machine cannot do."""
    missing = [f"no wall for {name}: {why}" for name, why in service["walls_missing"].items()]
    return "; ".join([f"{service['isolation']}: {', '.join(service['walls'])}", *missing])


def as_text(found: dict[str, Any]) -> str:
    """The status as a table of lines."""
    supervisor = found["supervisor"]
    lines = [f"{found['application']} as {found['topology']}, release {found['release']}, pid {supervisor['pid']}"]
    if found["journal"]:
        lines.append(f"! the journal cannot be written: {found['journal']}")
    if supervisor["trouble"]:
        lines.append(f"! {supervisor['trouble']}")
    rollout = found["rollout"]
    if rollout is not None:
        lines.append(
            f"rollout {rollout['number']}: release {rollout['earlier']} → {rollout['later']}, {rollout['stage']}: "
            f"{rollout['share']:.0%} of new requests; {rollout['waits'] or rollout['reason']}"
        )
    width = max(len(service["name"]) for service in found["services"])
    for service in found["services"]:
        scale = service["scale"]
        wanted = f"{scale['wanted']}"
        if scale["zero_by"]:
            wanted += f" (scaled to zero by {scale['zero_by']})"
        elif scale["min"] != scale["max"]:
            wanted += f" of {scale['min']}..{scale['max']}"
        ready = sum(replica["state"] == "ready" for replica in service["replicas"])
        limits = _limits(service["limits"])
        lines.append(f"{service['name']:<{width}}  {ready}/{wanted} ready  restarts {service['restarts']}  {limits}")
        if service["isolation"] != "none":
            lines.append(f"{'':<{width}}  {_walls(service)}")
        if service["trouble"]:
            lines.append(f"{'':<{width}}  ! {service['trouble']}")
            lines += [f"{'':<{width}}  | {line}" for line in service["last_lines"]]
        if service["wire_differences"]:
            count = len(service["wire_differences"])
            things = "1 thing" if count == 1 else f"{count} things"
            lines.append(
                f"{'':<{width}}  ! {things} would be different across a wire: see `fissile status --json`, or "
                f"WireDifferenceFound in `fissile history {service['name']}`"
            )
        for replica in service["replicas"]:
            note = replica["stuck"] or replica.get("listener", "")
            memory = f"  {replica['memory_bytes'] / 2**20:.0f} MiB" if replica["memory_bytes"] else ""
            lines.append(
                f"{'':<{width}}  {replica['slot']:>3}  {replica['state']:<8}  pid {replica['pid'] or '-':<7}  "
                f"build {replica['build']}  {replica['in_flight']:.0f} in flight"
                f"  lag {replica['lag_seconds'] * 1000:.0f} ms{memory}{'  ' + note}".rstrip()
            )
    return "\n".join(lines)

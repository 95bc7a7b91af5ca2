"""`fissile history`: who changed what, and what was seen."""

import time
from pathlib import Path
from typing import Annotated, Any

import typer


def history(
    service: Annotated[str, typer.Argument(help="of this service alone")] = "",
    path: Annotated[Path, typer.Option(help="folder with fissile.toml")] = Path(),
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="how many, the newest")] = 50,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="go on as things happen")] = False,
    json: Annotated[bool, typer.Option("--json", help="print JSON, a line each")] = False,
) -> None:
    """Show the newest changes and observations, oldest first; each with its reason. Also of what has ended."""
    from fissile.cli.client import Client
    from fissile.cli.output import note, show
    from fissile.errors import ConfigError

    client = None
    try:
        client = Client(path)
        entries = client.get(f"/history?limit={limit}&service={service}")
    except ConfigError as error:
        entries = _kept(path, service, limit)
        if entries is None:
            raise
        note(f"{error.message}; this is what was recorded")
    for entry in entries:
        show(entry, one_line=True) if json else _print(entry)
    if follow and client is not None:
        after = entries[-1]["id"] if entries else 0
        for entry in client.events(f"/events?after={after}&service={service}"):
            show(entry, one_line=True) if json else _print(entry)


def _kept(path: Path, service: str, limit: int) -> list[dict[str, Any]] | None:
    """What the journal of an application holds that nobody supervises; None where there is none."""
    import msgspec

    from fissile.journal.journal import Journal
    from fissile.supervisor.state import FOLDER, JOURNAL

    file = path / FOLDER / JOURNAL
    if not file.is_file():
        return None
    journal = Journal(file)
    journal.open()
    try:
        return msgspec.to_builtins(journal.history(service=service, limit=limit))
    finally:
        journal.close()


def _print(entry: dict[str, Any]) -> None:
    from fissile.cli.output import faint, in_line, say

    when = time.strftime("%m-%d %H:%M:%S", time.localtime(entry["at"]))
    data = entry["data"]
    where = entry["service"] + (f".{data['slot']}" if "slot" in data else "")
    who = f" by {in_line(entry['who'])}" if entry["kind"] == "change" else ""
    numbers = ", ".join(
        f"{k} {in_line(v)}" for k, v in data.items() if k not in ("slot", "stacks", "build") and v not in ("", None)
    )
    say(
        f"{when}  {where:<16} {entry['what']}{who}{faint(f' ({numbers})') if numbers else ''}  "
        f"{in_line(entry['reason'])}"
    )
    for line in str(data.get("stacks", "")).splitlines():
        say(f"{'':<34}{line}")

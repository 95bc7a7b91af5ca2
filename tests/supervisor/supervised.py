"""The sample application, run by a supervisor in this process, and proof that nothing is left of it."""

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from fissile.machine.output import Logs
from fissile.settings.load import load
from fissile.supervisor.endpoints import Endpoints
from fissile.supervisor.state_folder import IGNORING
from fissile.supervisor.supervisor import Supervisor

SAMPLE = Path(__file__).parent / "sample"
WAIT_SECONDS_MAX = 20.0


def lives(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def left_in(folder: Path) -> set[str]:
    """What a supervisor has left in an application's folder, but for what git reads."""
    state = folder / ".fissile"
    return {file.name for file in state.iterdir()} - {IGNORING} if state.exists() else set()


def shown(pid: int, file: str) -> bytes:
    """What the kernel shows of a process in /proc."""
    return Path(f"/proc/{pid}/{file}").read_bytes()


def descendants(pid: int) -> list[int]:
    """All processes below one."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                parent = int(Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
            children.setdefault(parent, []).append(int(entry))
    found, todo = [], [pid]
    while todo:
        new = children.get(todo.pop(), [])
        found += new
        todo += new
    return found


async def until(condition: Callable[[], Any], what: str) -> Any:
    """Wait until something holds; a failure says what did not."""
    limit = time.monotonic() + WAIT_SECONDS_MAX
    while time.monotonic() < limit:
        found = condition()
        if found:
            return found
        await asyncio.sleep(0.01)
    raise AssertionError(f"waited {WAIT_SECONDS_MAX:g} s in vain: {what}")


class Output:
    """What was written, by stream."""

    def __init__(self) -> None:
        self.out = b""
        self.err = b""

    def write_out(self, data: bytes) -> None:
        self.out += data

    def write_err(self, data: bytes) -> None:
        self.err += data

    def logs(self) -> Logs:
        """Logs that write here."""
        return Logs(self.write_out, self.write_err, coloured=False)


class Running:
    """A supervisor and its application, as a test talks to them."""

    def __init__(self, supervisor: Supervisor, endpoints: Endpoints, output: Output, client: httpx.AsyncClient) -> None:
        self.supervisor = supervisor
        self.endpoints = endpoints
        self.output = output
        self.client = client

    async def call(self, method: str, **arguments: Any) -> Any:
        """A method's result over HTTP/JSON. Raises AssertionError with the problem."""
        component, _, name = method.partition(".")
        service = next(s for s in self.endpoints.services.values() if component in s.components)
        answer = await self.client.post(
            f"{service.gateway}/rpc/{component}/{name}",
            content=json.dumps(arguments),
            headers={"Authorization": f"Bearer {self.endpoints.token}"},
        )
        assert answer.status_code == 200, answer.text
        return answer.json()

    def pids(self, service: str) -> list[int]:
        """The replicas of a service now, those included that are leaving."""
        found = next(s for s in self.supervisor.status().services if s.name == service)
        return [replica.pid for replica in found.replicas if replica.pid]

    def ready(self, service: str) -> int:
        """How many replicas of a service are ready."""
        found = next(s for s in self.supervisor.status().services if s.name == service)
        return sum(replica.state == "ready" for replica in found.replicas)

    @property
    def page(self) -> str:
        """The address of Pages."""
        return next(s.public["Pages"] for s in self.endpoints.services.values() if s.public)


@asynccontextmanager
async def running(folder: Path, topology: str = "microservices", **options: Any) -> AsyncIterator[Running]:
    """The application in a folder; afterwards none of its processes and files is left."""
    output = Output()
    supervisor = Supervisor(load(folder), topology, port=0, logs=output.logs(), **options)
    before = set(descendants(os.getpid()))
    endpoints = await supervisor.start()
    try:
        async with httpx.AsyncClient(timeout=30.0) as client:
            yield Running(supervisor, endpoints, output, client)
    finally:
        started = set(descendants(os.getpid())) - before
        await supervisor.stop()
    assert not [pid for pid in started if lives(pid)]
    assert left_in(folder) <= {"journal.db"}

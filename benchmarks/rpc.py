"""Remote calls, side by side with the peers: throughput, CPU of both sides, and latency of one caller.

All processes of all peers stay up and are measured in turns. Each works pinned to one core, client
and server together: so throughput is what a core can do, and no wake-up of a sleeping core is
measured as if it were software.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from fissile.bench.report import Figure, figure
from fissile.bench.stats import median, ratio

CALLERS = 64
PROCESS = Path(__file__).with_name("process.py")
# name: (module in peers/, address with {folder} and {port}); two addresses are two replicas to the caller.
PEERS = {
    "raw echo": ("echo", "unix:{folder}/echo"),
    "fissile": ("fissile_rpc", "unix:{folder}/fissile"),
    "fissile, two replicas": ("fissile_rpc", "unix:{folder}/fissile-a,unix:{folder}/fissile-b"),
    "fissile, TCP": ("fissile_rpc", "tcp:127.0.0.1:{port}"),
    "grpc.aio": ("grpc_aio", "unix:{folder}/grpc"),
    "FastAPI + aiohttp": ("fastapi_aiohttp", "unix:{folder}/fastapi-a"),
    "FastAPI + httpx": ("fastapi_httpx", "unix:{folder}/fastapi-h"),
}


class Process:
    """A process of a benchmark, asked and answering line by line."""

    def __init__(self, peer: str, side: str, address: str, core: int) -> None:
        self._child = subprocess.Popen(
            [sys.executable, str(PROCESS), peer, side, address],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: os.sched_setaffinity(0, {core}),
        )
        self._name = f"{peer} {side}"
        self._answer()

    def ask(self, **order: object) -> dict[str, float]:
        """Give a command and wait for its answer."""
        assert self._child.stdin is not None
        self._child.stdin.write(json.dumps(order) + "\n")
        self._child.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, float]:
        assert self._child.stdout is not None
        line = self._child.stdout.readline()
        if not line:
            raise RuntimeError(f"the benchmark's process {self._name} ended; its output above says why")
        return json.loads(line)

    def end(self) -> None:
        """Close its input, and wait for its end."""
        assert self._child.stdin is not None
        self._child.stdin.close()
        try:
            self._child.wait(5)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()


@dataclass
class Rounds:
    """What was measured of one peer, by round."""

    per_second: list[float] = field(default_factory=list)
    cpu_us: list[float] = field(default_factory=list)
    p50_us: list[float] = field(default_factory=list)


def measure(folder: Path, port: int, rounds: int, seconds: float) -> dict[str, Rounds]:
    """All peers in turns, so many rounds."""
    from peers import grpc_aio

    grpc_aio.prepare()
    core = max(os.sched_getaffinity(0))
    up: dict[str, tuple[Process, Process]] = {}
    processes: list[Process] = []
    try:
        for name, (peer, pattern) in PEERS.items():
            address = pattern.format(folder=folder, port=port)
            for side in ("server", "client"):
                processes.append(Process(peer, side, address, core))
            up[name] = (processes[-2], processes[-1])
        measured = {name: Rounds() for name in PEERS}
        for _ in range(rounds):
            for name, (server, client) in up.items():
                _one_round(server, client, seconds, measured[name])
        return measured
    finally:
        for process in processes:
            process.end()


def _one_round(server: Process, client: Process, seconds: float, found: Rounds) -> None:
    before = server.ask(do="cpu")["cpu"]
    answer = client.ask(do="throughput", callers=CALLERS, seconds=seconds)
    cpu = server.ask(do="cpu")["cpu"] - before + answer["cpu"]
    found.per_second.append(answer["calls"] / answer["seconds"])
    found.cpu_us.append(cpu / answer["calls"] * 1e6)
    found.p50_us.append(client.ask(do="sequential", seconds=seconds / 2)["p50_us"])


def figures(measured: dict[str, Rounds]) -> Iterable[Figure]:
    """The goals of a remote call, then what each peer did."""
    ours, tcp = measured["fissile"], measured["fissile, TCP"]
    grpc, echo = measured["grpc.aio"], measured["raw echo"]
    httpx, aiohttp = measured["FastAPI + httpx"], measured["FastAPI + aiohttp"]
    yield figure("rpc: throughput, fissile / grpc.aio", ratio(ours.per_second, grpc.per_second), "times", ">= 25")
    yield figure("rpc: CPU per call, grpc.aio / fissile", ratio(grpc.cpu_us, ours.cpu_us), "times", ">= 25")
    yield figure(
        "rpc: throughput, fissile / FastAPI + httpx", ratio(ours.per_second, httpx.per_second), "times", ">= 100"
    )
    yield figure(
        "rpc: throughput, fissile / FastAPI + aiohttp", ratio(ours.per_second, aiohttp.per_second), "times", ">= 15"
    )
    yield figure("rpc: sequential p50, fissile / raw echo", ratio(ours.p50_us, echo.p50_us), "times", "<= 5")
    yield figure("rpc: sequential p50, fissile / grpc.aio", ratio(ours.p50_us, grpc.p50_us), "times", "<= 0.16")
    yield figure("rpc: throughput, Unix socket / TCP", ratio(ours.per_second, tcp.per_second), "times", "<= 1.3")
    for name, rounds in measured.items():
        yield figure(f"rpc: {name}, calls per second", median(rounds.per_second), "1/s")
        yield figure(f"rpc: {name}, CPU per call, both sides", median(rounds.cpu_us), "µs")
        yield figure(f"rpc: {name}, sequential p50", median(rounds.p50_us), "µs")

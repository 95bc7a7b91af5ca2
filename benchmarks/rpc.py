"""Remote calls, side by side with the peers: throughput, CPU of both sides, and latency of one caller.

All processes of all peers stay up and are measured in turns. Client and server of a peer share one core: so
throughput is what a core can do, and no wake-up of a sleeping core is measured as if it were software. Then each
side gets a core of its own, which is what two machines or a machine with cores to spare would show.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cpu import place

from fissile.bench.report import Figure, figure
from fissile.bench.stats import median, ratio

CALLERS = 64
# A peer is measured with that many callers with which it is fastest: some have a pool that suffers from many.
CALLERS_TRIED = (8, 16, 64)
TRIALS_MAX = 3
REPLICAS = 50
# With these 50 replicas that do one thing at a time are half busy.
CALLERS_IN_TURN = 25
PROCESS = Path(__file__).with_name("process.py")
# name: (module in peers/, address with {folder} and {port}); several addresses are so many replicas.
PEERS = {
    "raw echo": ("echo", "unix:{folder}/echo"),
    "fissile": ("fissile_rpc", "unix:{folder}/fissile"),
    "fissile, two replicas": ("fissile_rpc", "unix:{folder}/fissile-a,unix:{folder}/fissile-b"),
    "fissile, TCP": ("fissile_rpc", "tcp:127.0.0.1:{port}"),
    "grpc.aio": ("grpc_aio", "unix:{folder}/grpc"),
    "FastAPI + aiohttp": ("fastapi_aiohttp", "unix:{folder}/fastapi-a"),
    "FastAPI + httpx": ("fastapi_httpx", "unix:{folder}/fastapi-h"),
}
MANY = f"fissile, {REPLICAS} replicas"
PEERS[MANY] = ("fissile_rpc", ",".join(f"unix:{{folder}}/many-{n}" for n in range(REPLICAS)))
# Whose best number of callers is looked for. Fissile keeps to 64, an echo has no callers.
OTHERS = ("grpc.aio", "FastAPI + aiohttp", "FastAPI + httpx")
# Who is measured on two cores as well: the client on one, the server or all replicas on the other.
APART = ("fissile", MANY, *OTHERS)
# Who has streams.
STREAMING = ("fissile", "grpc.aio")


class Process:
    """A process of a benchmark, asked and answering line by line. source: where it finds Fissile, "" for this one."""

    def __init__(self, peer: str, side: str, address: str, core: int, source: str = "") -> None:
        self._child = subprocess.Popen(
            [sys.executable, str(PROCESS), peer, side, address],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | ({"PYTHONPATH": source} if source else {}),
            preexec_fn=lambda: os.sched_setaffinity(0, {core}),
        )
        self.pid = self._child.pid
        self._name = f"{peer} {side}"
        self._answer()

    def ask(self, **order: object) -> dict[str, Any]:
        """Give a command and wait for its answer."""
        assert self._child.stdin is not None
        self._child.stdin.write(json.dumps(order) + "\n")
        self._child.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
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
    """What was measured of one peer, by round. apart: with a core for each side."""

    callers: int = CALLERS
    per_second: list[float] = field(default_factory=list)
    cpu_us: list[float] = field(default_factory=list)
    p50_us: list[float] = field(default_factory=list)
    apart_per_second: list[float] = field(default_factory=list)
    apart_cpu_us: list[float] = field(default_factory=list)
    apart_p50_us: list[float] = field(default_factory=list)
    item_us: list[float] = field(default_factory=list)
    found_us: list[float] = field(default_factory=list)
    broken_us: list[float] = field(default_factory=list)
    wait_p99_ms: list[float] = field(default_factory=list)
    turn_p99_ms: list[float] = field(default_factory=list)


class Pair:
    """Server and client of one peer."""

    def __init__(self, peer: str, address: str, core: int, source: str = "") -> None:
        self.server = Process(peer, "server", address, core, source)
        self.client = Process(peer, "client", address, core, source)

    def load(self, seconds: float, callers: int, *, do: str = "throughput", what: str = "cart") -> tuple[float, float]:
        """Calls (or items) per second, and microseconds of CPU of both sides for each."""
        order = {"callers": callers, "seconds": seconds, "what": what}
        self.client.ask(do=do, **(order | {"seconds": 0.0}))  # connect before anything is counted
        before = self.server.ask(do="cpu")["cpu"]
        answer = self.client.ask(do=do, **order)
        cpu = self.server.ask(do="cpu")["cpu"] - before + answer["cpu"]
        return answer["calls"] / answer["seconds"], cpu / answer["calls"] * 1e6

    def latency(self, seconds: float, callers: int = 1, *, what: str = "cart") -> dict[str, float]:
        """Median and 99th percentile, in microseconds."""
        return self.client.ask(do="latency", callers=callers, seconds=seconds, what=what)

    def place_server(self, core: int) -> None:
        """Move the server, or all replicas, to a core."""
        for pid in [self.server.pid, *self.server.ask(do="pids")["pids"]]:
            place(pid, core)

    def end(self) -> None:
        """End both."""
        self.client.end()
        self.server.end()


def measure(folder: Path, port: int, rounds: int, seconds: float) -> dict[str, Rounds]:
    """All peers in turns, so many rounds."""
    from peers import grpc_aio

    grpc_aio.prepare()
    cores = sorted(os.sched_getaffinity(0))
    up: dict[str, Pair] = {}
    try:
        for name, (peer, pattern) in PEERS.items():
            up[name] = Pair(peer, pattern.format(folder=folder, port=port), cores[-1])
        measured = {name: Rounds() for name in PEERS}
        for name in OTHERS:
            measured[name].callers = _best_callers(up[name], min(rounds, TRIALS_MAX), seconds / 2)
        for _ in range(rounds):
            _one_round(up, measured, seconds)
            for name in APART if len(cores) > 1 else ():
                _round_apart(up[name], measured[name], cores, seconds / 2)
        return measured
    finally:
        for pair in up.values():
            pair.end()


def _best_callers(pair: Pair, trials: int, seconds: float) -> int:
    """With how many callers it answers most."""
    found: dict[int, list[float]] = {callers: [] for callers in CALLERS_TRIED}
    for _ in range(trials):
        for callers, rates in found.items():
            rates.append(pair.load(seconds, callers)[0])
    return max(found, key=lambda callers: median(found[callers]))


def _one_round(up: dict[str, Pair], measured: dict[str, Rounds], seconds: float) -> None:
    for name, pair in up.items():
        found = measured[name]
        per_second, cpu_us = pair.load(seconds, found.callers)
        found.per_second.append(per_second)
        found.cpu_us.append(cpu_us)
        found.p50_us.append(pair.latency(seconds / 4)["p50_us"])
    for name in STREAMING:
        measured[name].item_us.append(up[name].load(seconds / 2, 1, do="items")[1])
    ours, many = measured["fissile"], measured[MANY]
    ours.found_us.append(up["fissile"].load(seconds / 2, CALLERS, what="found")[1])
    ours.broken_us.append(up["fissile"].load(seconds / 2, CALLERS, what="broken")[1])
    many.wait_p99_ms.append(up[MANY].latency(seconds, CALLERS, what="wait")["p99_us"] / 1000)
    many.turn_p99_ms.append(up[MANY].latency(seconds, CALLERS_IN_TURN, what="turn")["p99_us"] / 1000)


def _round_apart(pair: Pair, found: Rounds, cores: list[int], seconds: float) -> None:
    pair.place_server(cores[0])
    try:
        per_second, cpu_us = pair.load(seconds, found.callers)
        found.apart_per_second.append(per_second)
        found.apart_cpu_us.append(cpu_us)
        found.apart_p50_us.append(pair.latency(seconds / 4)["p50_us"])
    finally:
        pair.place_server(cores[-1])


def figures(measured: dict[str, Rounds]) -> Iterable[Figure]:
    """The goals of a remote call, then what each peer did."""
    ours, tcp, many = measured["fissile"], measured["fissile, TCP"], measured[MANY]
    grpc, echo = measured["grpc.aio"], measured["raw echo"]
    httpx, aiohttp = measured["FastAPI + httpx"], measured["FastAPI + aiohttp"]
    added = [mine - floor for mine, floor in zip(ours.p50_us, echo.p50_us, strict=True)]
    yield figure(
        "rpc: throughput, fissile / FastAPI + aiohttp", ratio(ours.per_second, aiohttp.per_second), "times", ">= 15"
    )
    yield figure("rpc: throughput, fissile / FastAPI + httpx", ratio(ours.per_second, httpx.per_second), "times")
    yield figure("rpc: throughput, fissile / grpc.aio", ratio(ours.per_second, grpc.per_second), "times", ">= 25")
    yield figure("rpc: CPU per call, grpc.aio / fissile", ratio(grpc.cpu_us, ours.cpu_us), "times", ">= 25")
    yield figure("rpc: sequential p50, fissile, added to a raw echo", median(added), "µs", "<= 24")
    yield figure("rpc: sequential p50, fissile / grpc.aio", ratio(ours.p50_us, grpc.p50_us), "times", "<= 0.16")
    yield figure("rpc: throughput, Unix socket / TCP", ratio(ours.per_second, tcp.per_second), "times", "<= 1.3")
    yield figure(
        f"rpc: CPU per call, one of {REPLICAS} replicas / one replica", ratio(many.cpu_us, ours.cpu_us), "times", "<= 4"
    )
    yield figure(f"rpc: {REPLICAS} replicas, handlers of 20 ms, p99", median(many.wait_p99_ms), "ms")
    yield figure(f"rpc: {REPLICAS} replicas half busy, one 20 ms at a time, p99", median(many.turn_p99_ms), "ms")
    yield figure("rpc: CPU per call, undeclared error / success", ratio(ours.broken_us, ours.found_us), "times", "<= 3")
    yield figure("rpc: CPU per item of a stream, fissile, both sides", median(ours.item_us), "µs", "<= 2")
    yield figure("rpc: CPU per item of a stream, grpc.aio, both sides", median(grpc.item_us), "µs")
    if ours.apart_cpu_us:
        yield from _figures_apart(measured)
    for name, rounds in measured.items():
        yield figure(f"rpc: {name}, calls per second", median(rounds.per_second), "1/s")
        yield figure(f"rpc: {name}, CPU per call, both sides", median(rounds.cpu_us), "µs")
        yield figure(f"rpc: {name}, sequential p50", median(rounds.p50_us), "µs")
        if name in OTHERS:
            yield figure(f"rpc: {name}, callers with which it is fastest", rounds.callers, "callers")


def _figures_apart(measured: dict[str, Rounds]) -> Iterable[Figure]:
    ours = measured["fissile"]
    for name in OTHERS:
        peer = measured[name]
        faster = ratio(ours.apart_per_second, peer.apart_per_second)
        cheaper = ratio(peer.apart_cpu_us, ours.apart_cpu_us)
        yield figure(f"rpc, a core for each side: throughput, fissile / {name}", faster, "times")
        yield figure(f"rpc, a core for each side: CPU per call, {name} / fissile", cheaper, "times")
    many = ratio(measured[MANY].apart_cpu_us, ours.apart_cpu_us)
    yield figure(f"rpc, a core for each side: CPU per call, one of {REPLICAS} replicas / one replica", many, "times")
    for name in APART:
        found = measured[name]
        yield figure(f"rpc, a core for each side: {name}, calls per second", median(found.apart_per_second), "1/s")
        yield figure(f"rpc, a core for each side: {name}, CPU per call, both sides", median(found.apart_cpu_us), "µs")
        yield figure(f"rpc, a core for each side: {name}, sequential p50", median(found.apart_p50_us), "µs")


if __name__ == "__main__":
    import tempfile

    from run import free_port

    from fissile.bench.report import as_table

    with tempfile.TemporaryDirectory(prefix="fissile-bench-") as place_of_sockets:
        found_now = measure(Path(place_of_sockets), free_port(), int(sys.argv[1]), float(sys.argv[2]))
    print(as_table(figures(found_now)))

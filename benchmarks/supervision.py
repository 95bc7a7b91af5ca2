"""Supervision: starts, crashes, limits, scaling, and a supervisor that dies, each with a real load."""

import asyncio
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from math import ceil
from pathlib import Path
from typing import Any

import httpx
import msgspec
import psutil
from cpu import cpu_seconds
from running import Running

from fissile.bench.report import Figure, figure
from fissile.machine.output import Logs
from fissile.orchestrator.change_writer import ChangeWriter
from fissile.orchestrator.deploy_rules import set_spec, sets_of
from fissile.orchestrator.desired import Desired, LiveRelease, Rollout, Stage
from fissile.orchestrator.plan import Plan, plan
from fissile.orchestrator.reconciler import Reconciler, Step
from fissile.orchestrator.replica import Replica, ReplicaReady
from fissile.orchestrator.routing import Told
from fissile.orchestrator.spec import ReleaseSpec, ServiceSpec
from fissile.orchestrator.state import ApplicationState
from fissile.rpc.channel import Channel, contracts_of
from fissile.rpc.stub import remote
from fissile.runtime.control import OPERATOR
from fissile.runtime.loading import load_application
from fissile.settings.load import load
from fissile.settings.schema import LimitSettings, ScaleSettings, ServiceSettings, Settings
from fissile.supervisor.supervisor import Supervisor

ROOT = Path(__file__).parents[1]
YARD = ROOT / "benchmarks" / "yard"
SHOP = ROOT / "examples" / "shop"
SLOT = 1
# What each service of the shop is asked as its first request.
QUESTIONS: dict[str, tuple[str, str, tuple[Any, ...]]] = {
    "catalog": ("Catalog", "categories", ()),
    "cart": ("Cart", "count", ("nobody",)),
    "payments": ("Payments", "capture", ("unknown",)),
    "orders": ("Orders", "orders", ("nobody",)),
}
IDLE_REPLICAS = 200
IDLE_SECONDS = 10.0


def quiet() -> Logs:
    """Logs that go nowhere."""
    return Logs(lambda _: None, lambda _: None, coloured=False)


@asynccontextmanager
async def supervised(settings: Settings) -> AsyncIterator[Supervisor]:
    """An application, split into microservices and run by this process."""
    with tempfile.TemporaryDirectory(prefix="fissile-") as folder:
        supervisor = Supervisor(settings, "microservices", port=0, state=Path(folder), logs=quiet())
        await supervisor.start()
        try:
            yield supervisor
        finally:
            await supervisor.stop()


@asynccontextmanager
async def reference(
    supervisor: Supervisor, settings: Settings, component: str, addresses: tuple[str, ...]
) -> AsyncIterator[tuple[Any, Channel]]:
    """A component, as a caller outside holds it."""
    graph = load_application(settings.app, Path(settings.root))
    interface = graph.components[component].interface
    channel = Channel(
        component.lower(),
        addresses,
        caller_service=OPERATOR,
        token=supervisor.operator_token,
        callers=(OPERATOR,),
        contracts=contracts_of([interface]),
    )
    try:
        yield remote(interface, channel, caller=OPERATOR), channel
    finally:
        await channel.close()


def service(settings: Settings, name: str, **options: Any) -> Settings:
    """The settings with others for one service."""
    return msgspec.structs.replace(settings, services={**settings.services, name: ServiceSettings(**options)})


async def until(condition: Callable[[], Any], seconds_max: float = 60.0) -> None:
    """Look again and again."""
    limit = time.monotonic() + seconds_max
    while not condition():
        if time.monotonic() > limit:
            raise TimeoutError("waited in vain")
        await asyncio.sleep(0.001)


def percentile(values: list[float], q: float) -> float:
    """The q-quantile, by the nearest rank."""
    return sorted(values)[max(0, ceil(q * len(values)) - 1)]


def pss_mib(pids: list[int]) -> float:
    """Memory of processes, what they share counted once (proc_pid_smaps_rollup(5))."""
    total = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
    return total / 1024


# -- starts ----------------------------------------------------------------------------------------


async def starts(rounds: int) -> list[Figure]:
    """From the decision for one more replica to its first answer, for several services of the shop."""
    with tempfile.TemporaryDirectory() as data:
        shop = Path(shutil.copytree(SHOP, Path(data) / "shop", ignore=shutil.ignore_patterns(".*")))
        settings = load(shop)
        taken: list[float] = []
        load_application(settings.app, shop)  # whoever asks knows the types already
        async with supervised(settings) as supervisor:
            for _ in range(rounds):
                for name in QUESTIONS:
                    taken.append(await _one_start(supervisor, settings, name))
                    if "-v" in sys.argv:
                        print(name, round(taken[-1], 1))
            forked = await _ten(supervisor, "catalog")
        async with supervised(service(settings, "catalog", spawn=True)) as supervisor:
            executed = await _ten(supervisor, "catalog")
    return [
        figure("start: decision to first answer, shop's services, median", statistics.median(taken), "ms", "<= 25"),
        figure("start: decision to first answer, shop's services, p99", percentile(taken, 0.99), "ms", "<= 50"),
        figure("start: memory of ten replicas and zygote, forked / exec'd", forked / executed, "times", "<= 0.5"),
        figure("start: one of ten replicas, zygote shared (PSS)", forked / 10, "MiB"),
    ]


async def _one_start(supervisor: Supervisor, settings: Settings, name: str) -> float:
    component, method, arguments = QUESTIONS[name]
    path = Path(supervisor.operations.slot_path(name, SLOT))
    begun = time.perf_counter()
    scaling = asyncio.create_task(supervisor.operations.scale(name, 2, 2))
    while not path.exists():
        await asyncio.sleep(0.0002)
    async with reference(supervisor, settings, component, (f"unix:{path}",)) as (one, _):
        await getattr(one, method)(*arguments)
        taken = (time.perf_counter() - begun) * 1000
    await scaling
    await supervisor.operations.scale(name, 1, 1)
    # Whichever is the idlest goes; slot 1 has to be free for the next round.
    await until(lambda: len(supervisor.operations.observed(name).replicas) == 1)
    if SLOT in {replica.slot for replica in supervisor.operations.observed(name).replicas.values()}:
        await supervisor.operations.hold(name)
        await supervisor.operations.release(name)
    await until(lambda: not path.exists())
    await asyncio.sleep(0.15)  # the zygote's next spare: starts do not follow each other at once in life
    return taken


async def _ten(supervisor: Supervisor, name: str) -> float:
    await supervisor.operations.scale(name, 10, 10)
    await until(lambda: supervisor.operations.observed(name).ready() == 10)
    await asyncio.sleep(1.0)
    found = supervisor.status()
    zygote = found.supervisor.zygote or 0
    pids = [r.pid for s in found.services if s.name == name for r in s.replicas]
    spares = [child.pid for child in psutil.Process(zygote).children()]
    others = {r.pid for s in found.services for r in s.replicas}
    alone = all(psutil.Process(pid).ppid() == zygote and "spawned" not in _command(pid) for pid in pids)
    return pss_mib([*pids, *([zygote, *(pid for pid in spares if pid not in others)] if alone else [])])


def _command(pid: int) -> str:
    return " ".join(psutil.Process(pid).cmdline())


# -- crashes ---------------------------------------------------------------------------------------


class Counts(msgspec.Struct):
    """What became of a load."""

    answered: int = 0
    failed: int = 0
    errors: list[str] = []


async def load_of(call: Callable[[], Awaitable[Any]], callers: int, done: asyncio.Event, counts: Counts) -> None:
    """So many callers, one call after the other each, until it is done."""

    async def caller() -> None:
        while not done.is_set():
            try:
                await call()
                counts.answered += 1
            except Exception as error:
                counts.failed += 1
                counts.errors.append(repr(error)[:200])

    async with asyncio.TaskGroup() as group:
        for _ in range(callers):
            group.create_task(caller())


async def crashes(kills: int) -> list[Figure]:
    """Each replica of a service is killed once, while calls are in flight on all."""
    settings = service(load(YARD), "worker", replicas=kills)
    taken: list[float] = []
    idempotent, once = Counts(), Counts()
    allowed = 0
    async with supervised(settings) as supervisor:
        addresses = supervisor.operations.addresses("worker")
        async with reference(supervisor, settings, "Worker", addresses) as (worker, channel):
            done = asyncio.Event()
            loads = [
                asyncio.create_task(load_of(lambda: worker.wait(0.02), 2 * kills, done, idempotent)),
                asyncio.create_task(load_of(lambda: worker.once(0.02), 2 * kills, done, once)),
            ]
            await until(lambda: len(channel.ready) == kills)
            for slot in range(kills):
                await asyncio.sleep(0.15)
                found = supervisor.operations.observed("worker").replicas
                (victim,) = [replica for replica in found.values() if replica.slot == slot]
                allowed += sum(
                    c.load()
                    for c in channel.ready
                    if c.address == f"unix:{supervisor.operations.slot_path('worker', slot)}"
                )
                begun = time.perf_counter()
                os.kill(victim.pid, signal.SIGKILL)
                await until(lambda slot=slot, old=victim: _serves(supervisor, slot, old.serial))
                taken.append((time.perf_counter() - begun) * 1000)
            done.set()
            await asyncio.gather(*loads)
    return [
        figure("crash: to replacement ready, p99", percentile(taken, 0.99), "ms", "<= 100"),
        figure("crash: to replacement ready, median", statistics.median(taken), "ms"),
        figure(f"crash: idempotent calls failed of {idempotent.answered}", idempotent.failed, "calls", "<= 0"),
        figure(
            f"crash: other calls failed of {once.answered}, those on the dead not counted",
            max(0, once.failed - allowed),
            "calls",
            "<= 0",
        ),
    ]


def _serves(supervisor: Supervisor, slot: int, old: int) -> bool:
    found = supervisor.operations.observed("worker").replicas.values()
    return any(r.slot == slot and r.serial != old and r.ready_at is not None for r in found)


# -- a step of load ----------------------------------------------------------------------------------


async def step() -> list[Figure]:
    """Ten times the load at once, on a service that may grow."""
    settings = service(load(YARD), "worker", scale=ScaleSettings(min=1, max=16, target=2.0))
    settings = service(settings, "bystander", scale=ScaleSettings(min=1, max=16, target=2.0))
    settings = msgspec.structs.replace(settings, machine=msgspec.structs.replace(settings.machine, cores=32))
    async with supervised(settings) as supervisor:
        addresses = supervisor.operations.addresses("door")
        async with reference(supervisor, settings, "Door", addresses) as (door, _):
            done, counts = asyncio.Event(), Counts()
            light = asyncio.create_task(load_of(lambda: door.wait(0.1), 2, done, counts))
            await asyncio.sleep(3.0)
            before = {s.name: len(s.replicas) for s in supervisor.status().services}
            begun = time.perf_counter()
            heavy = asyncio.create_task(load_of(lambda: door.wait(0.1), 18, done, counts))
            await until(lambda: supervisor.operations.observed("worker").ready() >= 10)
            taken = time.perf_counter() - begun
            after = {s.name: len(s.replicas) for s in supervisor.status().services}
            done.set()
            await asyncio.gather(light, heavy)
    moved = sum(after[name] != before[name] for name in before if name != "worker")
    return [
        figure("step of x10: until enough replicas are ready", taken, "s", "<= 1"),
        figure("step of x10: other services that moved", moved, "services", "<= 0"),
        figure(f"step of x10: calls failed of {counts.answered}", counts.failed, "calls", "<= 0"),
    ]


# -- limits ------------------------------------------------------------------------------------------


async def hog() -> list[Figure]:
    """One service eats memory beyond its limit, again and again; the others are asked meanwhile."""
    settings = service(load(YARD), "worker", limits=LimitSettings(memory="96M"))
    async with supervised(settings) as supervisor:
        pids = {r.pid for s in supervisor.status().services if s.name != "worker" for r in s.replicas}
        door = next(s.public["Door"] for s in supervisor.endpoints().services.values() if s.public)
        async with httpx.AsyncClient(timeout=10.0) as http:
            done, counts = asyncio.Event(), Counts()

            async def ask() -> None:
                (await http.get(f"{door}/bystander")).raise_for_status()

            asking = asyncio.create_task(load_of(ask, 4, done, counts))
            async with reference(supervisor, settings, "Worker", supervisor.operations.addresses("worker")) as (
                worker,
                _,
            ):
                for _ in range(3):
                    before = supervisor.operations.observed("worker").restarts
                    try:
                        await worker.eat(300)
                    except Exception:
                        pass  # it was killed while it ate
                    await until(lambda before=before: supervisor.operations.observed("worker").restarts > before)
                    await until(lambda: supervisor.operations.observed("worker").ready() == 1)
            done.set()
            await asking
        left = {r.pid for s in supervisor.status().services if s.name != "worker" for r in s.replicas}
        deaths = [e.reason for e in supervisor.journal.history(service="worker") if e.what == "ReplicaExited"]
    told = sum("ran out of memory" in reason for reason in deaths)
    return [
        figure("memory hog: replicas lost by other services", len(pids - left), "replicas", "<= 0"),
        figure(f"memory hog: requests lost by other services of {counts.answered}", counts.failed, "requests", "<= 0"),
        figure("memory hog: deaths reported as out of memory, of 3", told, "deaths", ">= 3"),
    ]


# -- a supervisor that dies ----------------------------------------------------------------------------


async def killed_supervisor(kills: int) -> list[Figure]:
    """The supervisor is killed at random instants under load; the next one adopts what it left."""
    draw = random.Random(7)
    with tempfile.TemporaryDirectory() as data:
        yard = Path(shutil.copytree(YARD, Path(data) / "yard", ignore=shutil.ignore_patterns(".*")))
        command = [sys.executable, "-m", "fissile"]
        up = [*command, "up", str(yard), "--port", "0", "--json"]
        endpoints = json.loads((await _run(up)).stdout)
        page = next(s["public"]["Door"] for s in endpoints["services"].values() if s["public"])
        await _run([*command, "scale", "worker", "3", "--path", str(yard)])
        await asyncio.sleep(1.0)
        before = await _pids(yard)
        adopted, times = 0, list[float]()
        done, counts = asyncio.Event(), Counts()
        limits = httpx.Limits(max_connections=8)
        async with httpx.AsyncClient(timeout=10.0, limits=limits) as http:

            async def ask() -> None:
                (await http.get(page)).raise_for_status()

            asking = asyncio.create_task(load_of(ask, 8, done, counts))
            for _ in range(kills):
                pid = json.loads((yard / ".fissile" / "endpoints.json").read_text())["pid"]
                await asyncio.sleep(draw.random() * 0.5)
                os.kill(pid, signal.SIGKILL)
                begun = time.perf_counter()
                result = await _run(up)
                times.append(time.perf_counter() - begun)
                if result.returncode != 0:
                    raise RuntimeError(result.stderr)
                adopted += await _pids(yard) == before
            done.set()
            await asking
        await _run([*command, "down", str(yard)])
    return [
        figure(f"killed supervisor: requests failed of {counts.answered}", counts.failed, "requests", "<= 0"),
        figure("killed supervisor: every replica adopted, times", adopted, "times", f">= {kills}"),
        figure("killed supervisor: until the next one has taken over, median", statistics.median(times), "s"),
    ]


async def _run(command: list[str]) -> "subprocess.CompletedProcess[str]":
    return await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)


async def _pids(folder: Path) -> dict[str, set[int]]:
    result = await _run([sys.executable, "-m", "fissile", "status", str(folder), "--json"])
    return {s["name"]: {r["pid"] for r in s["replicas"]} for s in json.loads(result.stdout)["services"]}


# -- size ----------------------------------------------------------------------------------------------


SERVICES, REPLICAS = 1000, 10


class Still:
    """An Executor of whom nothing is asked but what costs nothing."""

    def push_routes(self, replica: Replica, told: Told) -> None:
        """All know them already."""

    def __getattr__(self, verb: str) -> Any:
        raise RuntimeError(f"the steady state asks to {verb}")


def many(releases: int) -> tuple[ApplicationState, Reconciler]:
    """1,000 services and 10,000 replicas, all ready; each service calls the next. releases: 2, while one rolls out."""
    names = [f"service-{number}" for number in range(SERVICES)]
    calls = {f"C{number}": (f"C{number + 1}",) for number in range(SERVICES - 1)} | {f"C{SERVICES - 1}": ()}
    services = {
        name: ServiceSpec(components=(own,), calls=to, replicas=REPLICAS // releases)
        for name, (own, to) in zip(names, calls.items(), strict=True)
    }
    specs: list[ReleaseSpec] = []
    for release in range(releases):
        builds = {name: f"{release}{number:04}" for number, name in enumerate(names)}
        specs.append(ReleaseSpec(f"r{release}", services, sets_of(builds, services), calls, builds=builds))
    lives = [LiveRelease(spec.name, spec.sets, (tuple(names),)) for spec in specs]
    sets = {name: set_spec(spec, service) for spec in specs for service, name in spec.sets.items()}
    rollout = Rollout(1, lives[1], {}, stage=Stage.CANARY, share=0.1) if releases > 1 else None
    state = ApplicationState({spec.name: spec for spec in specs}, 1)
    writer = ChangeWriter(state, Still())
    writer.begin(Desired(sets, lives[0], rollout))
    for name, want in sets.items():
        for slot in range(want.replicas):
            state.observed.observe(state.observed.begin(name, slot, 1, "build", 0.0), ReplicaReady(), 0.0)
    return state, Reconciler(state, Still(), writer, print)


def planning() -> list[Figure]:
    """1,000 services and 10,000 replicas, of which nothing is wanted but that they stay."""
    found: list[Figure] = []
    for releases, when in ((1, ""), (2, ", in a rollout")):
        state, reconciler = many(releases)
        for _ in range(3):  # until all are told what there is to tell
            reconciler.step(1.0)
        name = f"for 1,000 services and 10,000 replicas{when}"
        found += [
            figure(f"plan() {name}", _milliseconds(plan, state.desired, state.observed, 1.0), "ms", "<= 20"),
            figure(f"step() {name}", _milliseconds(reconciler.step, 1.0), "ms", "<= 20"),
        ]
    return found


def _milliseconds(decide: Callable[..., Plan | Step], *arguments: Any) -> float:
    """What it takes, in the median, to decide that there is nothing to do."""
    taken: list[float] = []
    for _ in range(21):
        begun = time.perf_counter()
        found = decide(*arguments)
        taken.append((time.perf_counter() - begun) * 1000)
        if found.actions:
            raise RuntimeError(f"the steady state asks for {found.actions[0]}")
    return statistics.median(taken)


async def idle(replicas: int = IDLE_REPLICAS, seconds: float = IDLE_SECONDS) -> list[Figure]:
    """Many replicas that do nothing: what looking after them costs."""
    with tempfile.TemporaryDirectory() as data:
        yard = await asyncio.to_thread(
            Running, YARD, Path(data) / "yard", "microservices", {"worker": {"replicas": replicas - 2}}
        )
        try:
            await asyncio.sleep(3.0)
            everybody, count = yard.pids(), len(yard.replicas())
            used, looking = -cpu_seconds(everybody), -cpu_seconds([yard.supervisor])
            await asyncio.sleep(seconds)
            used, looking = used + cpu_seconds(everybody), looking + cpu_seconds([yard.supervisor])
        finally:
            yard.down()
    return [
        figure(f"{count} idle replicas: CPU of all processes", 100 * used / seconds, "% of a core", "<= 15"),
        figure(f"{count} idle replicas: CPU of the supervisor", 100 * looking / seconds, "% of a core", "<= 5"),
    ]


async def _measure(rounds: int) -> list[Figure]:
    full = rounds >= 7
    found = await starts(25 if full else 3)
    found += await crashes(60 if full else 6)
    found += await step()
    found += await hog()
    found += await killed_supervisor(100 if full else 4)
    found += planning()
    found += await (idle() if full else idle(20, 2.0))
    return found


def measure(rounds: int) -> list[Figure]:
    """All of it; fewer rounds than 7 show that it runs, not how well."""
    return asyncio.run(_measure(rounds))


if __name__ == "__main__":
    for one in asyncio.run(_measure(int(sys.argv[1]) if len(sys.argv) > 1 else 3)):
        print(f"{one.name:<75} {one.value:>10.3f} {one.unit:<10} {one.goal:<8} {one.holds}")

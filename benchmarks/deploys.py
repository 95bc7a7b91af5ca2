"""Deploys, rollbacks and splits of running applications, under load from another process.

The shop is deployed from the command line, as its operators would. What a release does wrong, and which versions
have met in one answer, is asked of the small application in tests/rollouts/sample, whose answers tell.
"""

import asyncio
import itertools
import json
import re
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
from purchases import SHOP, Customer

from fissile.bench.report import Figure, figure
from fissile.bench.stats import quantile

CHAIN = Path(__file__).parents[1] / "tests" / "rollouts" / "sample"
TRAFFIC = Path(__file__).with_name("traffic.py")
PAGES = ("/", "/products", "/products/fjord-mug")
RATE = 40.0
BAD_RATE = 100.0
DEPLOYS = 50
SLOW_SECONDS = 0.15
CANARY = ("--canary", "10%", "--watch", "60s")
PROCESSES_SECONDS_MAX = 5.0
IGNORED = shutil.ignore_patterns("data", ".*", "__pycache__")


class Running:
    """An application in the background, in a folder of its own."""

    def __init__(self, folder: Path, page: str, endpoints: dict[str, Any]) -> None:
        self.folder = folder
        self.page = page
        self.endpoints = endpoints

    async def command(self, *arguments: str) -> tuple[int, str]:
        """Exit code and output of a command of ours."""
        return await command(*arguments)

    async def status(self) -> dict[str, Any]:
        """`fissile status --json`."""
        return json.loads((await command("status", str(self.folder), "--json"))[1])

    async def deploy(self, *options: str) -> tuple[int, str]:
        """`fissile deploy`."""
        return await command("deploy", str(self.folder), *options)

    def edit(self, file: str, **values: Any) -> None:
        """Alter constants of a module."""
        path = self.folder / file
        text = path.read_text()
        for name, value in values.items():
            text, count = re.subn(rf"^{name} = .*$", f"{name} = {value!r}", text, flags=re.MULTILINE)
            if count != 1:
                raise RuntimeError(f"{file} has no constant {name}")
        path.write_text(text)


async def command(*arguments: str) -> tuple[int, str]:
    """Run `fissile`."""
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).with_name("fissile")),
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await process.communicate()
    return process.returncode or 0, out.decode()


@asynccontextmanager
async def running(source: Path, topology: str) -> AsyncIterator[Running]:
    """A copy of an application, up."""
    with tempfile.TemporaryDirectory(prefix="fissile-") as parent:
        folder = Path(shutil.copytree(source, Path(parent) / source.name, ignore=IGNORED))
        code, out = await command("up", str(folder), "--topology", topology, "--port", "0", "--json")
        if code:
            raise RuntimeError(out)
        endpoints = json.loads(out)
        (page,) = [url for one in endpoints["services"].values() for url in one["public"].values()]
        try:
            yield Running(folder, page, endpoints)
        finally:
            await command("down", str(folder))


class Load:
    """What a load saw, once it is over. requests: when (wall clock), seconds, whether answered well."""

    def __init__(self) -> None:
        self.answers: dict[str, int] = {}
        self.failures: list[str] = []
        self.requests: list[tuple[float, float, bool]] = []

    def versions(self) -> set[tuple[int, ...]]:
        """Which versions had a part in one answer: of the sample alone."""
        return {tuple(json.loads(text)) for text in self.answers}

    def hurt(self, since: float, until: float, slow_seconds: float) -> int:
        """Requests that failed, or took longer, of those sent in a time."""
        return sum(since <= at < until and (not well or taken > slow_seconds) for at, taken, well in self.requests)


@asynccontextmanager
async def loaded(page: str, rate: float, *paths: str) -> AsyncIterator[Load]:
    """A load for as long as the block lasts."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(TRAFFIC),
        page,
        str(rate),
        *(paths or ("/",)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=2**28,
    )
    assert process.stdout is not None
    await process.stdout.readline()
    found = Load()
    try:
        yield found
        out, _ = await process.communicate(b"")  # which closes its input
        data = json.loads(out)
        found.answers, found.failures, found.requests = data["answers"], data["failures"], data["requests"]
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@asynccontextmanager
async def shopping(page: str, customers: int = 2) -> AsyncIterator[list[str]]:
    """Customers who buy one thing after the other, each with a session; their troubles, and "ok" for each purchase."""
    said: list[str] = []
    enough = asyncio.Event()

    async def buy(number: int) -> None:
        customer = Customer(page, f"customer{number}@shop.test")
        try:
            product = await customer.sign_up()
            while not enough.is_set():
                await customer.buy(product)
                said.append("ok")
        except Exception as error:
            said.append(f"{type(error).__name__}: {error}"[:300])
        finally:
            await customer.close()

    tasks = [asyncio.create_task(buy(number)) for number in range(customers)]
    try:
        yield said
    finally:
        enough.set()
        await asyncio.gather(*tasks)


def pids(status: dict[str, Any], *, but: str) -> dict[str, list[int]]:
    """The processes of all other services."""
    return {s["name"]: [r["pid"] for r in s["replicas"]] for s in status["services"] if s["name"] != but}


# -- one service -------------------------------------------------------------------------------------


async def one_service(rounds: int) -> list[Figure]:
    """One changed service of the shop; and the monolith restarted by hand, as the other way of doing it."""
    taken: list[float] = []
    touched = 0
    async with (
        running(SHOP, "microservices") as shop,
        loaded(shop.page, RATE, *PAGES) as load,
        shopping(shop.page) as bought,
    ):
        await asyncio.sleep(1.0)
        for number in range(rounds):
            before = await shop.status()
            shop.edit("shop/images.py", IN_MEMORY_MAX=400 + number)
            begun = time.perf_counter()
            code, out = await shop.deploy()
            taken.append(time.perf_counter() - begun)
            if code or "release" not in out:
                raise RuntimeError(out)
            touched += pids(before, but="images") != pids(await shop.status(), but="images")
        await asyncio.sleep(0.5)
    failed = len(load.failures) + len(bought) - bought.count("ok")
    async with running(SHOP, "monolith") as shop, loaded(shop.page, RATE, *PAGES) as hand:
        port = shop.page.rpartition(":")[2]
        await asyncio.sleep(1.0)
        begun = time.perf_counter()
        await command("down", str(shop.folder))
        await command("up", str(shop.folder), "--topology", "monolith", "--port", port)
        by_hand = time.perf_counter() - begun
        await asyncio.sleep(0.5)
    return [
        figure("deploy: one changed service, command to all traffic on it, median", statistics.median(taken), "s"),
        figure("deploy: one changed service, command to all traffic on it, greatest", max(taken), "s", "<= 1.5"),
        figure(f"deploy: requests failed of {len(load.requests) + len(bought)}", failed, "requests", "<= 0"),
        figure(f"deploy: times that other services' processes changed, of {rounds}", touched, "times", "<= 0"),
        figure("by hand: the whole monolith restarted", by_hand, "s"),
        figure(f"by hand: requests failed of {len(hand.requests)}", len(hand.failures), "requests"),
    ]


# -- many in a row -----------------------------------------------------------------------------------


async def in_a_row(count: int) -> list[Figure]:
    """One deploy after the other, and what that does to the supervisor's memory."""
    memory: list[float] = []
    processes: list[int] = []
    async with running(SHOP, "microservices") as shop:
        supervisor = psutil.Process((await shop.status())["supervisor"]["pid"])
        async with loaded(shop.page, RATE, *PAGES) as load:
            for number in range(count):
                shop.edit("shop/images.py", IN_MEMORY_MAX=600 + number)
                code, out = await shop.deploy("--wait")
                if code:
                    raise RuntimeError(out)
                memory.append(supervisor.memory_full_info().uss / 2**20)
                processes.append(len(supervisor.children(recursive=True)))
        # A deploy is over before the last process of the earlier release has gone.
        limit = time.monotonic() + PROCESSES_SECONDS_MAX
        while processes[-1] > processes[0] and time.monotonic() < limit:
            await asyncio.sleep(0.05)
            processes.append(len(supervisor.children(recursive=True)))
    # The first ones fill caches and free lists.
    settled = max(1, count // 5)
    growth = statistics.mean(memory[-settled:]) - statistics.mean(memory[settled : 2 * settled] or memory)
    each = statistics.median(later - before for before, later in itertools.pairwise(memory[settled - 1 :]))
    return [
        figure(
            f"{count} deploys in a row: requests failed of {len(load.requests)}", len(load.failures), "requests", "<= 0"
        ),
        figure(f"{count} deploys in a row: growth of the supervisor's memory", growth, "MiB", "<= 1"),
        figure(f"{count} deploys in a row: growth by a deploy, times {count} (median)", each * count, "MiB"),
        figure(f"{count} deploys in a row: growth of its processes", processes[-1] - processes[0], "processes", "<= 0"),
    ]


# -- the live split ----------------------------------------------------------------------------------


class Split:
    """A recorded run, in seconds of the wall clock.

    marks: what happened when. samples: memory of all processes (MiB) and replicas by service. rate: requests per
    second. taken: seconds of each deploy, by topology.
    """

    def __init__(self) -> None:
        self.marks: list[tuple[float, str]] = []
        self.samples: list[tuple[float, float, dict[str, int]]] = []
        self.load = Load()
        self.bought: list[str] = []
        self.rate = 0.0
        self.taken: dict[str, float] = {}

    def as_json(self) -> bytes:
        """For `plot.py`."""
        found = {
            "marks": self.marks,
            "samples": self.samples,
            "rate": self.rate,
            "requests": self.load.requests,
            "bought": self.bought.count("ok"),
        }
        return json.dumps(found).encode()


async def most(page: str, seconds: float) -> float:
    """Requests per second of which the application answers all in time."""
    import aiohttp

    done = 0
    limit = time.monotonic() + seconds
    async with aiohttp.ClientSession() as session:

        async def ask(number: int) -> None:
            nonlocal done
            while time.monotonic() < limit:
                async with session.get(page + PAGES[(number + done) % len(PAGES)]) as answer:
                    await answer.read()
                done += 1

        await asyncio.gather(*(ask(number) for number in range(16)))
    return done / seconds


async def split(pause_seconds: float) -> Split:
    """A running monolith becomes microservices and a monolith again, at half of the most that it bears."""
    found = Split()
    async with running(SHOP, "monolith") as shop:
        await most(shop.page, 1.0)
        found.rate = await most(shop.page, 3.0) / 2
        root = psutil.Process((await shop.status())["supervisor"]["pid"])
        watching = asyncio.create_task(_sample(found, shop, root))
        async with shopping(shop.page, 1) as found.bought, loaded(shop.page, found.rate, *PAGES) as found.load:
            for topology in ("microservices", "monolith"):
                await asyncio.sleep(pause_seconds)
                begun = time.time()
                found.marks.append((begun, f"deploy --topology {topology}"))
                code, out = await shop.deploy("--topology", topology)
                found.taken[topology] = time.time() - begun
                if code:
                    raise RuntimeError(out)
                found.marks.append((time.time(), f"all requests go to {topology}"))
            await asyncio.sleep(pause_seconds)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    return found


async def _sample(found: Split, shop: Running, root: psutil.Process) -> None:
    """Memory of all processes, and replicas by service."""
    while True:
        at = time.time()
        memory, replicas = await asyncio.to_thread(_look, root)
        found.samples.append((at, memory, replicas))
        await asyncio.sleep(0.1)


def _look(root: psutil.Process) -> tuple[float, dict[str, int]]:
    total = 0.0
    replicas: dict[str, int] = {}
    for process in [root, *root.children(recursive=True)]:
        try:
            total += process.memory_full_info().pss / 2**20
            title = " ".join(process.cmdline())
        except (psutil.Error, OSError):
            continue
        service = re.fullmatch(r"fissile ([a-z]+)\.\d+\s*", title)
        if service:
            replicas[service[1]] = replicas.get(service[1], 0) + 1
    return total, replicas


async def split_figures(pause_seconds: float) -> tuple[Split, list[Figure]]:
    """The shop, and whether two versions ever meet where all code is new, too."""
    found = await split(pause_seconds)
    taken = [seconds for _, seconds, well in found.load.requests if well]
    failed = len(found.load.failures) + len(found.bought) - found.bought.count("ok")
    before = statistics.median(memory for at, memory, _ in found.samples if at < found.marks[0][0])
    peak = max(memory for _, memory, _ in found.samples)
    async with running(CHAIN, "monolith") as chain, loaded(chain.page, BAD_RATE, "/", "/", "/slow") as load:
        for version, topology in ((2, "microservices"), (3, "duo"), (4, "monolith")):
            for name in ("front", "middle", "back"):
                chain.edit(f"chain/{name}.py", VERSION=version)
            code, out = await chain.deploy("--topology", topology)
            if code:
                raise RuntimeError(out)
        await asyncio.sleep(0.5)
    mixed = sum(len(set(versions)) > 1 for versions in load.versions())
    count = f"of {len(found.load.requests) + len(found.bought)}, {found.rate:.0f} per second"
    return found, [
        figure(f"live split and back: requests failed {count}", failed, "requests", "<= 0"),
        figure("live split and back: answers of several versions", mixed + len(load.failures), "answers", "<= 0"),
        figure("live split: monolith to microservices", found.taken["microservices"], "s"),
        figure("live split: microservices to monolith", found.taken["monolith"], "s"),
        figure("live split: memory at the peak, beyond the monolith's", peak - before, "MiB"),
        figure("live split: p99 of all requests meanwhile", quantile(taken, 0.99) * 1000, "ms"),
    ]


# -- bad releases --------------------------------------------------------------------------------------

MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "10 % errors": ({"FAILING_SHARE": 0.05}, ""),  # of each of the two calls that an answer needs
    "+200 ms": ({"PAUSE_SECONDS": 0.1}, ""),
    "crash at start": ({}, "raise RuntimeError('no database')"),
    "hang": ({"PAUSE_SECONDS": 3600.0}, ""),
}


async def bad_release(mistake: str, *options: str, watch_seconds: float = 0.0) -> tuple[float, int, int, Load]:
    """Seconds until it is rolled back (or those given), requests hurt meanwhile, and all requests of the time."""
    values, start = MISTAKES[mistake]
    slow = 1.0 if mistake == "hang" else SLOW_SECONDS
    async with running(CHAIN, "microservices") as chain, loaded(chain.page, BAD_RATE) as load:
        await asyncio.sleep(1.0)
        chain.edit("chain/back.py", VERSION=2, **values)
        if start:
            file = chain.folder / "chain" / "back.py"
            file.write_text(f"{file.read_text()}\n    async def start(self) -> None:\n        {start}\n")
        begun = time.time()
        code, out = await chain.deploy("--wait", *options)
        ended = await _retreated(chain) or time.time()
        if options and (code != 1 or "was rolled back" not in out):
            raise RuntimeError(f"{mistake}: it was not rolled back:\n{out}")
        if watch_seconds:
            await asyncio.sleep(max(0.0, begun + watch_seconds - time.time()))
            ended = begun + watch_seconds
            if not code:
                await command("rollback", "--path", str(chain.folder))
    count = sum(begun <= at < ended for at, _, _ in load.requests)
    return ended - begun, load.hurt(begun, ended, slow), count, load


async def _retreated(chain: Running) -> float:
    """When all requests went back to the release before; 0 if they never did."""
    lines = (await command("history", "--path", str(chain.folder), "--json", "-n", "1000"))[1].splitlines()
    for entry in map(json.loads, lines):
        if entry["what"] == "AdvanceRollout" and entry["data"]["stage"] == "retreating":
            return float(entry["at"])
    return 0.0


async def bad_releases(count: int) -> list[Figure]:
    """What each of so many mistakes costs with a canary, and in the same time without."""
    found: list[Figure] = []
    for mistake in list(MISTAKES)[:count]:
        seconds, hurt, all_of, _ = await bad_release(mistake, *CANARY)
        _, without, others, _ = await bad_release(mistake, watch_seconds=seconds)
        found += [
            figure(f"bad release, {mistake}: rolled back after", seconds, "s"),
            figure(f"bad release, {mistake}: requests hurt of {all_of}", hurt, "requests"),
            figure(f"bad release, {mistake}: hurt in that time without a canary, of {others}", without, "requests"),
        ]
    return found


def measure(rounds: int, record: Callable[[Split], None] = lambda _: None) -> list[Figure]:
    """All figures. record: gets the run of the live split."""
    short = rounds < 3

    async def run() -> list[Figure]:
        found = await one_service(2 if short else 10)
        found += await in_a_row(5 if short else DEPLOYS)
        recorded, figures = await split_figures(1.0 if short else 5.0)
        record(recorded)
        found += figures
        found += await bad_releases(1 if short else len(MISTAKES))
        return found

    return asyncio.run(run())


if __name__ == "__main__":
    from fissile.bench.report import as_table

    print(as_table(measure(int(sys.argv[1]) if len(sys.argv) > 1 else 1)))

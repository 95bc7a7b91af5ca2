"""A million calls with everything that can go wrong: `python -m tests.storm [--calls N] [--seed S]`.

One callee, two processes of honest callers, and one of hostile peers, which makes a third of the calls. Exits with 1
if a promise is broken, and says how to run the same storm again.
"""

import argparse
import asyncio
import json
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from tests.storm.store import CALLER, CALLERS, TOKEN
from tests.storm.verdict import Promise, Seen, judge, table

ROOT = Path(__file__).parents[2]
CALLERS_COUNT = 2
START_SECONDS_MAX = 30.0
# Longer than the longest deadline of a call, and than a breaker's longest pause.
STALL_SECONDS_MAX = 45.0
GAUGES_SECONDS_MAX = 5.0
STOP_SECONDS_MAX = 3.0
# Fewer calls do not tell growth from noise.
MEMORY_CALLS_MIN = 500_000
WEIGH_SECONDS = 0.5

# glibc keeps what large messages were in for the next, as much as the luck of their order has it: ±10 % of all. Blocks
# of more than 64 KB go back to the system at once here, so that what is weighed is what is kept.
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "131072"}


class Broken(Exception):
    """The storm cannot go on."""


class Child:
    """A process of the storm."""

    def __init__(self, name: str, module: str, folder: Path) -> None:
        self.name = name
        self.module = module
        self.log = folder / f"{name}.log"
        self.seen = Seen(name, broken=[])
        self.done = 0
        self.idle = False
        self.ended = False
        self.changed = asyncio.Event()
        self.reports: list[dict[str, Any]] = []

    async def start(self, **given: Any) -> None:
        """Start it."""
        with self.log.open("wb") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                f"tests.storm.{self.module}",
                json.dumps(given),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                cwd=ROOT,
                env={**os.environ, **ALLOCATOR},
                limit=1 << 20,
            )
        self.listener = asyncio.create_task(self.listen())

    async def listen(self) -> None:
        """Take what it says."""
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            told: dict[str, Any] = json.loads(line)
            self.done = told.get("done", self.done)
            self.idle = self.idle or "idle" in told
            if "broken" in told:
                self.seen.broken.append(told["broken"])
            if "gauges" in told:
                self.seen.gauges = {**(self.seen.gauges if self.module == "caller" else {}), **told["gauges"]}
            if "outcomes" in told:
                self.seen.outcomes = told["outcomes"]
                self.seen.offences = told.get("offences", 0)
                self.seen.wrong = told["wrong"]
            self.ended = self.ended or "end" in told
            if "done" not in told or "idle" in told:
                self.reports.append(told)
            self.changed.set()
        self.seen.exit_code = await self.process.wait()
        self.changed.set()

    async def report(self, what: str, seconds: float) -> dict[str, Any]:
        """The next report that says `what`."""
        try:
            async with asyncio.timeout(seconds):
                while True:
                    for index, told in enumerate(self.reports):
                        if what in told:
                            del self.reports[: index + 1]
                            return told
                    if self.seen.exit_code is not None:
                        raise Broken(f"{self.name} ended with {self.seen.exit_code}")
                    self.changed.clear()
                    await self.changed.wait()
        except TimeoutError:
            raise Broken(f"{self.name} does not say its {what} within {seconds:g} s") from None

    def order(self, word: str) -> None:
        """Tell it something."""
        assert self.process.stdin is not None
        self.process.stdin.write(word.encode() + b"\n")

    def rss(self) -> int:
        """Resident memory, bytes; 0 if it is gone."""
        try:
            return psutil.Process(self.process.pid).memory_info().rss
        except psutil.Error:
            return 0

    def stacks(self) -> None:
        """Let it write to its log where it stands."""
        if self.seen.exit_code is None:
            for number in (signal.SIGUSR1, signal.SIGUSR2):
                self.process.send_signal(number)

    async def stop(self) -> None:
        """End it."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        await asyncio.wait([self.listener], timeout=STOP_SECONDS_MAX)
        if not self.listener.done():
            self.process.kill()
        await self.listener


class Storm:
    """One storm, from its start to its verdict."""

    def __init__(self, seed: int, calls: int, *, seconds_max: float, settle_seconds: float, folder: Path) -> None:
        self.seed = seed
        self.calls = calls
        self.limit = time.monotonic() + seconds_max
        self.seconds_max = seconds_max
        self.settle_seconds = settle_seconds
        self.folder = folder
        self.callee = Child("callee", "callee", folder)
        self.callers = [Child(f"caller {number}", "caller", folder) for number in range(CALLERS_COUNT)]
        self.hostile = Child("hostile", "hostile", folder)
        self.trouble: list[str] = []
        self.seconds = 0.0

    @property
    def everybody(self) -> list[Child]:
        """All processes, the callee first."""
        return [self.callee, *self.callers, self.hostile]

    async def run(self) -> list[Promise]:
        """Raise the storm and judge it."""
        started: list[Child] = []
        try:
            await self._run(started)
        except Broken as error:
            self.trouble.append(str(error))
        finally:
            for child in reversed(started):
                await child.stop()
        for child in started:
            if child.seen.exit_code:
                self.trouble.append(f"{child.name} ended with {child.seen.exit_code}: see its log")
            child.seen.log = child.log.read_text(errors="replace").splitlines()
        return judge(
            self.callee.seen,
            [child.seen for child in self.callers],
            self.hostile.seen,
            self.trouble,
            memory=self.calls >= MEMORY_CALLS_MIN,
        )

    async def _run(self, started: list[Child]) -> None:
        started.append(self.callee)
        await self.callee.start(folder=str(self.folder))
        where = await self.callee.report("unix", START_SECONDS_MAX)
        share = self.calls // 3
        common = {"seed": self.seed, "unix": where["unix"], "tcp": where["tcp"]}
        known = {
            "token": TOKEN,
            "service": CALLER,
            "callers": CALLERS,
            "contracts": where["contracts"],
            "methods": where["methods"],
        }
        begun = time.monotonic()
        for number, child in enumerate(self.callers):
            started.append(child)
            await child.start(**common, process=number, calls=share)
        started.append(self.hostile)
        await self.hostile.start(**common, known=known, calls=self.calls - CALLERS_COUNT * share)
        await self._until_done(begun)
        self.seconds = time.monotonic() - begun
        await asyncio.sleep(self.settle_seconds)  # what is promised of memory is promised of this time
        for child in self.everybody:
            child.seen.rss_end = child.rss()
        for child in self.callers:
            child.order("close")
        for child in self.callers:
            await child.report("end", START_SECONDS_MAX)
        await self._until_empty()

    async def _until_done(self, begun: float) -> None:
        """Watch how far they are, until all have made their share."""
        makers = [*self.callers, self.hostile]
        before, moved, shown, weighed = 0, time.monotonic(), 0.0, 0.0
        while not all(child.idle for child in makers):
            await asyncio.sleep(0.1)
            now = time.monotonic()
            done = sum(child.done for child in makers)
            for child in self.everybody:
                if child.seen.exit_code is not None:
                    raise Broken(f"{child.name} ended with {child.seen.exit_code} after {done:,} calls: see its log")
            if done != before:
                before, moved = done, now
            if now - weighed > WEIGH_SECONDS:
                weighed = now
                self._weigh(done)
            if now - moved > STALL_SECONDS_MAX or now > self.limit:
                for child in self.everybody:
                    child.stacks()
                far = ", ".join(f"{child.name}: {child.done:,}" for child in makers)
                raise Broken(
                    f"nothing ended for {STALL_SECONDS_MAX:g} s ({far})"
                    if now <= self.limit
                    else f"not done after {self.seconds_max:g} s ({far})"
                )
            if now - shown > (0.5 if sys.stderr.isatty() else 60.0):
                shown = now
                self._show(done, now - begun)

    def _show(self, done: int, elapsed: float) -> None:
        left = elapsed / done * (self.calls - done) if done else 0.0
        end = "\r" if sys.stderr.isatty() else "\n"
        print(f"{done:>9,} of {self.calls:,} calls, {left:4.0f} s left ", end=end, file=sys.stderr, flush=True)

    def _weigh(self, done: int) -> None:
        for child in self.everybody:
            child.seen.rss.append((done / self.calls, child.rss()))

    async def _until_empty(self) -> None:
        """Until the callee's gauges are what they were, or have had their time."""
        limit = time.monotonic() + GAUGES_SECONDS_MAX
        while True:
            self.callee.order("gauges")
            told = await self.callee.report("gauges", GAUGES_SECONDS_MAX)
            if not told["gauges"] or time.monotonic() > limit:
                return
            await asyncio.sleep(0.1)


def raise_storm(seed: int, calls: int, *, seconds_max: float, settle_seconds: float = 10.0) -> tuple[bool, list[str]]:
    """Run a storm; whether all promises were kept, and the lines that say so."""
    with tempfile.TemporaryDirectory(prefix="storm") as name:
        storm = Storm(seed, calls, seconds_max=seconds_max, settle_seconds=settle_seconds, folder=Path(name))
        promises = asyncio.run(storm.run())
        lines = table(promises, [child.seen for child in storm.everybody], storm.seconds, calls)
        kept = all(promise.kept for promise in promises)
        if not kept:
            lines.append(f"again: make storm SEED={seed} CALLS={calls}")
            for child in storm.everybody:
                target = ROOT / "build" / "storm"
                target.mkdir(parents=True, exist_ok=True)
                os.replace(child.log, target / child.log.name) if child.log.exists() else None
            lines.append("logs: build/storm/")
        return kept, lines


def main() -> int:
    """0 if all promises were kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--minutes", type=float, default=20.0, help="what it may take")
    parser.add_argument(
        "--settle", type=float, default=10.0, help="seconds between the end and the last look at memory"
    )
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1_000_000)
    print(f"storm of {options.calls:,} calls, seed {seed}", flush=True)
    kept, lines = raise_storm(seed, options.calls, seconds_max=options.minutes * 60, settle_seconds=options.settle)
    print("\n".join(lines))
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())

"""This code beside that of another checkout, in turns: `python benchmarks/beside.py OTHER/src [ROUNDS] [SECONDS]`.

Whether a change made calls slower cannot be told from two runs on a machine that others use. Here both are up at once,
and a ratio is taken within each round: above 1.0 this code takes more than the other.
"""

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from rpc import CALLERS, CALLERS_IN_TURN, REPLICAS, Pair

from fissile.bench.report import Figure, as_table, figure
from fissile.bench.stats import median, ratio

Measure = Callable[[Pair, float], float]
ONE: dict[str, Measure] = {
    "CPU of a call, 64 callers": lambda pair, seconds: pair.load(seconds, CALLERS)[1],
    "p50 of a call, one caller": lambda pair, seconds: pair.latency(seconds)["p50_us"],
    "CPU of an undeclared error": lambda pair, seconds: pair.load(seconds, CALLERS, what="broken")[1],
    "CPU of an item of a stream": lambda pair, seconds: pair.load(seconds, 1, do="items")[1],
}
MANY: dict[str, Measure] = {
    f"CPU of a call among {REPLICAS} replicas": lambda pair, seconds: pair.load(seconds, CALLERS)[1],
    f"p99 among {REPLICAS} replicas, handlers of 20 ms": lambda pair, seconds: pair.latency(
        seconds, CALLERS, what="wait"
    )["p99_us"],
    f"p99 among {REPLICAS} replicas half busy, one 20 ms at a time": lambda pair, seconds: pair.latency(
        seconds, CALLERS_IN_TURN, what="turn"
    )["p99_us"],
}


def _pairs(folder: Path, sources: tuple[str, str], replicas: int) -> list[Pair]:
    core = max(os.sched_getaffinity(0))
    found: list[Pair] = []
    for number, source in enumerate(sources):
        addresses = ",".join(f"unix:{folder}/{number}-{replicas}-{replica}" for replica in range(replicas))
        found.append(Pair("fissile_rpc", addresses, core, source))
    return found


def _compared(pairs: list[Pair], measures: dict[str, Measure], rounds: int, seconds: float) -> list[Figure]:
    found: list[Figure] = []
    for name, measure in measures.items():
        taken: list[list[float]] = [[], []]
        for turn in range(rounds):
            for number in (turn % 2, 1 - turn % 2):
                taken[number].append(measure(pairs[number], seconds))
        now, before = taken
        found.append(figure(f"{name}: this code / the other", ratio(now, before), "times"))
        found.append(figure(f"{name}: this code", median(now), "µs"))
    return found


def main(other: str, rounds: int, seconds: float) -> list[Figure]:
    """All comparisons, one after the other."""
    sources = ("", str(Path(other).resolve(strict=True)))
    found: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="fissile-bench-") as folder:
        for replicas, measures in ((1, ONE), (REPLICAS, MANY)):
            pairs = _pairs(Path(folder), sources, replicas)
            try:
                found += _compared(pairs, measures, rounds, seconds)
            finally:
                for pair in pairs:
                    pair.end()
    return found


if __name__ == "__main__":
    its_rounds, its_seconds = (sys.argv[2:] + ["9", "0.7"][len(sys.argv) - 2 :])[:2]
    print(as_table(main(sys.argv[1], int(its_rounds), float(its_seconds))))

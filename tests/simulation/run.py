"""Thousands of seeds, on all cores: `python -m tests.simulation.run [--seeds N] [--from SEED] [--deploys]`.

Failed ones go to seeds.txt; those of worlds with deploys are only printed.
"""

import argparse
import multiprocessing
import os
import sys
import time

from fissile.simulation.faults import deploying, settled, troubled
from tests.simulation.seeds import FILE, seeded


def settle(work: tuple[int, bool, bool]) -> tuple[str, list[str]]:
    """One world: what was broken in it, "" if nothing was; and what was done, where that is wanted."""
    seed, deploys, told = work
    world = deploying(seeded(seed)) if deploys else troubled(seeded(seed))
    broken = ""
    try:
        settled(world)
    except AssertionError as error:
        broken = f"{seed}  # at {world.clock.now:.3f} s: {error}"[:900]
    return broken, [f"{when:9.3f} {service:<10} {what}" for when, service, what in world.trail] if told else []


def main() -> int:
    """0 if all promises were kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3000)
    parser.add_argument("--from", type=int, default=1000, dest="first")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="processes at once")
    parser.add_argument("-v", action="store_true", help="print what was done, in the order of the seeds")
    parser.add_argument("--deploys", action="store_true", help="worlds in which releases follow each other")
    options = parser.parse_args()
    failed: list[str] = []
    begun = time.perf_counter()
    work = [(seed, options.deploys, options.v) for seed in range(options.first, options.first + options.seeds)]
    with multiprocessing.Pool(options.jobs) as pool:
        for broken, trail in pool.imap(settle, work, chunksize=10):
            if broken:
                failed.append(broken)
                print(broken)
            for line in trail:
                print(line)
    taken = time.perf_counter() - begun
    print(f"{options.seeds} seeds in {taken:.1f} s, {60 * options.seeds / taken:.0f} a minute; {len(failed)} failed")
    if failed and not options.deploys:
        with FILE.open("a") as kept:
            kept.writelines(f"{line}\n" for line in failed)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())

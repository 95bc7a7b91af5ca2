"""Thousands of seeds: `python -m tests.simulation.run [--seeds N] [--from SEED] [--deploys]`.

Failed ones go to seeds.txt; those of worlds with deploys are only printed.
"""

import argparse
import sys
import time

from fissile.simulation.faults import deploying, settled, troubled
from tests.simulation.seeds import FILE, seeded


def main() -> int:
    """0 if all promises were kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3000)
    parser.add_argument("--from", type=int, default=1000, dest="first")
    parser.add_argument("-v", action="store_true", help="print what was done")
    parser.add_argument("--deploys", action="store_true", help="worlds in which releases follow each other")
    options = parser.parse_args()
    failed: list[str] = []
    begun = time.perf_counter()
    for seed in range(options.first, options.first + options.seeds):
        world = deploying(seeded(seed)) if options.deploys else troubled(seeded(seed))
        try:
            settled(world)
        except AssertionError as error:
            failed.append(f"{seed}  # at {world.clock.now:.3f} s: {error}"[:900])
            print(failed[-1])
        if options.v:
            for when, service, what in world.trail:
                print(f"{when:9.3f} {service:<10} {what}")
    taken = time.perf_counter() - begun
    print(f"{options.seeds} seeds in {taken:.1f} s, {60 * options.seeds / taken:.0f} a minute; {len(failed)} failed")
    if failed and not options.deploys:
        with FILE.open("a") as kept:
            kept.writelines(f"{line}\n" for line in failed)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())

"""`make bench`: measures everything, prints a table, writes build/bench.json.

Later benchmarks add a module with `measure` and `figures` and a line in `stages`.
"""

import argparse
import os
import platform
import shutil
import socket
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import autoscalers
import commands
import deploys
import local
import pages
import pinning
import plot
import purchases
import replicas
import rpc
import supervision

from fissile.bench.report import Figure, as_json, as_table, rewritten

ROOT = Path(__file__).parents[1]
# Of a round's seconds, for each kind of page: its CPU is steady.
PAGE_SHARE = 0.6


def free_port() -> int:
    """A TCP port that nobody uses just now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def machine() -> str:
    """Where the figures come from, as far as it matters to them."""
    optimised = "--enable-optimizations" in (sysconfig.get_config_var("CONFIG_ARGS") or "")
    # Debian builds its own with PGO by other means, and leaves no trace of it in sysconfig.
    debian = sys.base_prefix == "/usr" and Path("/etc/debian_version").exists()
    build = "with PGO" if optimised or debian else "without PGO"
    return f"{os.cpu_count()} cores, {platform.system()}, CPython {platform.python_version()} built {build}"


def stages(rounds: int, seconds: float, recorded: Path) -> dict[str, Callable[[], Iterable[Figure]]]:
    """What is measured, in this order. recorded: where the live split is written to."""

    def remote() -> Iterable[Figure]:
        with tempfile.TemporaryDirectory(prefix="fissile-bench-") as folder:
            return rpc.figures(rpc.measure(Path(folder), free_port(), rounds, seconds))

    def page() -> Iterable[Figure]:
        with tempfile.TemporaryDirectory(prefix="fissile-bench-") as folder:
            ports = [free_port() for _ in pages.FASTAPI]
            return pages.figures(pages.measure(Path(folder), ports, rounds, seconds * PAGE_SHARE))

    return {
        "local calls": lambda: local.figures(local.measure(max(rounds, 7))),
        "replicas": lambda: replicas.figures(replicas.measure(rounds)),
        "remote calls": remote,
        "pages": page,
        "pinning": lambda: pinning.measure(rounds),
        "purchases": lambda: purchases.figures(purchases.measure(rounds)),
        "supervision": lambda: supervision.measure(rounds),
        "commands": lambda: commands.measure(rounds),
        "autoscalers": autoscalers.figures,
        "deploys": lambda: deploys.measure(rounds, lambda split: recorded.write_bytes(split.as_json()) and None),
    }


def main() -> int:
    """Measure; 0 also where a goal is missed: the table says so, and a busy machine is no failure."""
    parser = argparse.ArgumentParser(description="Measures Fissile side by side with its peers.")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=1.0, help="of load per peer and round")
    parser.add_argument("--json", type=Path, default=ROOT / "build" / "bench.json")
    parser.add_argument("--docs", type=Path, help="put the figures into this document, and the picture beside it")
    options = parser.parse_args()
    options.json.parent.mkdir(parents=True, exist_ok=True)
    recorded = options.json.parent / "live-split.json"
    found: list[Figure] = []
    for name, stage in stages(options.rounds, options.seconds, recorded).items():
        begun = time.monotonic()
        found += stage()
        print(f"{name}: measured in {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
    plot.draw(recorded, recorded.with_suffix(".svg"))
    options.json.write_bytes(as_json(found))
    origin = f"{machine()}; medians of {options.rounds} interleaved rounds"
    print(f"{origin}\n\n{as_table(found)}")
    print(f"\nThe autoscaler beside models of others:\n\n{autoscalers.table()}")
    missed = [one.name for one in found if one.holds is False]
    print(f"\n{len(missed)} goals missed" + "".join(f"\n  {name}" for name in missed))
    if options.docs is not None:
        parts = {
            "figures": f"Measured on {origin}.\n\n{as_table(found)}",
            "autoscaling": f"```text\n{autoscalers.table()}\n```",
        }
        options.docs.write_text(rewritten(options.docs.read_text(), parts))
        shutil.copy(recorded.with_suffix(".svg"), options.docs.with_name("live-split.svg"))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""`make bench`: measures everything, prints a table, writes build/bench.json.

Later benchmarks add a module with `measure` and `figures` and a line in `main`.
"""

import argparse
import os
import platform
import shutil
import socket
import sys
import sysconfig
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import autoscalers
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


def main() -> int:
    """Measure; 0 also where a goal is missed: the table says so, and a busy machine is no failure."""
    parser = argparse.ArgumentParser(description="Measures Fissile side by side with its peers.")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=1.0, help="of load per peer and round")
    parser.add_argument("--json", type=Path, default=ROOT / "build" / "bench.json")
    parser.add_argument("--docs", type=Path, help="put the figures into this document, and the picture beside it")
    options = parser.parse_args()
    found: list[Figure] = []
    found += local.figures(local.measure(max(options.rounds, 7)))
    found += replicas.figures(replicas.measure(options.rounds))
    with tempfile.TemporaryDirectory(prefix="fissile-bench-") as folder:
        found += rpc.figures(rpc.measure(Path(folder), free_port(), options.rounds, options.seconds))
    with tempfile.TemporaryDirectory(prefix="fissile-bench-") as folder:
        ports = [free_port() for _ in pages.FASTAPI]
        found += pages.figures(pages.measure(Path(folder), ports, options.rounds, options.seconds))
    found += pinning.measure(options.rounds)
    found += purchases.figures(purchases.measure(options.rounds))
    found += supervision.measure(options.rounds)
    found += autoscalers.figures()
    options.json.parent.mkdir(parents=True, exist_ok=True)
    recorded = options.json.parent / "live-split.json"
    found += deploys.measure(options.rounds, lambda split: recorded.write_bytes(split.as_json()) and None)
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

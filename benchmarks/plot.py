"""Draws a recorded live split: `python benchmarks/plot.py build/live-split.json docs/live-split.svg`.

Four rows over the same time: requests, how long they took, replicas by service, memory. A dashed line is where a
deploy was ordered, the next line is where all new requests had moved.
"""

import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

from fissile.bench.stats import quantile

BIN_SECONDS = 0.25
COLOURS = ["#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951", "#ff8ab7", "#a463f2", "#97bbf5", "#9c6b4e"]
INK, FAINT, BAD = "#222222", "#888888", "#d62728"


def draw(recorded: Path, picture: Path) -> None:
    """From the JSON of a `deploys.Split` to an SVG or PNG file."""
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "fissile"
    from matplotlib import pyplot

    data = json.loads(recorded.read_bytes())
    begin = data["requests"][0][0]
    figure, rows = pyplot.subplots(
        4, 1, sharex=True, figsize=(10, 9), height_ratios=[2, 2, 2, 1.4], layout="constrained"
    )
    requests, latency, replicas, memory = rows
    _requests(requests, data, begin)
    _latency(latency, data, begin)
    _replicas(replicas, data, begin)
    memory.plot([at - begin for at, _, _ in data["samples"]], [mib for _, mib, _ in data["samples"]], color=INK)
    memory.set_ylim(bottom=0)
    memory.set_ylabel("memory, MiB (PSS)")
    memory.set_xlabel("seconds")
    for row in rows:
        row.spines[["top", "right"]].set_visible(False)
        row.grid(axis="y", color="#eeeeee")
        row.set_axisbelow(True)
        for at, text in data["marks"]:
            begins = text.startswith("deploy")
            row.axvline(at - begin, color=FAINT, linewidth=1, linestyle="--" if begins else "-")
    for at, text in data["marks"]:
        if text.startswith("deploy"):
            requests.annotate(
                text,
                (at - begin, 1.0),
                xycoords=("data", "axes fraction"),
                xytext=(0, 2),
                textcoords="offset points",
                ha="center",
                va="bottom",
                fontsize=9,
                color=INK,
            )
    memory.set_xlim(0, data["requests"][-1][0] - begin)
    failed = sum(not well for _, _, well in data["requests"])
    figure.suptitle(
        f"The example shop, split while it runs and put together again: {len(data['requests']):,} requests at "
        f"{data['rate']:.0f} per second\n(half of the most that it bears), {failed} failed; "
        f"{data['bought']} purchases made meanwhile",
        fontsize=11,
        color=INK,
    )
    figure.savefig(picture, metadata={"Date": None} if picture.suffix == ".svg" else None, dpi=110)
    pyplot.close(figure)


def _bins(data: dict[str, Any], begin: float) -> dict[int, list[tuple[float, bool]]]:
    found: dict[int, list[tuple[float, bool]]] = defaultdict(list)
    for at, seconds, well in data["requests"]:
        found[int((at - begin) / BIN_SECONDS)].append((seconds, well))
    return found


def _requests(row: Any, data: dict[str, Any], begin: float) -> None:
    bins = _bins(data, begin)
    last = max(bins)
    times = [number * BIN_SECONDS for number in range(last)]
    row.step(times, [len(bins[n]) / BIN_SECONDS for n in range(last)], where="post", color=COLOURS[0], label="sent")
    bad = [sum(not well for _, well in bins[n]) / BIN_SECONDS for n in range(last)]
    row.step(times, bad, where="post", color=BAD, label="failed")
    row.set_ylim(bottom=-1)
    row.set_ylabel("requests per second")
    row.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=8)


def _latency(row: Any, data: dict[str, Any], begin: float) -> None:
    bins = _bins(data, begin)
    numbers = sorted(bins)[:-1]
    times = [(number + 0.5) * BIN_SECONDS for number in numbers]
    for q, colour, label in ((0.99, COLOURS[2], "p99"), (0.5, COLOURS[0], "median")):
        values = [quantile([seconds for seconds, _ in bins[n]], q) * 1000 for n in numbers]
        row.plot(times, values, color=colour, label=label)
    from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter

    row.set_yscale("log")
    row.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    row.yaxis.set_major_formatter(FormatStrFormatter("%g"))
    row.yaxis.set_minor_formatter(NullFormatter())
    row.set_ylabel("answered after, ms")
    row.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=8)


def _replicas(row: Any, data: dict[str, Any], begin: float) -> None:
    services: dict[str, None] = {}
    for _, _, replicas in data["samples"]:
        services |= dict.fromkeys(replicas)
    names = sorted(services, key=lambda name: (name != "app", name))
    times = [at - begin for at, _, _ in data["samples"]]
    counts = [[replicas.get(name, 0) for _, _, replicas in data["samples"]] for name in names]
    row.stackplot(times, counts, labels=names, colors=COLOURS, step="post", linewidth=0)
    row.set_ylabel("replicas")
    row.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=8, reverse=True)


if __name__ == "__main__":
    draw(Path(sys.argv[1]), Path(sys.argv[2]))

"""Commands that only look, beside an interpreter that does nothing: what people wait for at each call.

CPU time (wait4(2)) of whole processes in turns, so that other work of the machine counts little.
"""

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from fissile.bench.report import Figure, figure

LOOKS: tuple[tuple[str, ...], ...] = (("status",), ("logs",), ("history",), ("--help",))
# On a machine where `python3 -c pass` takes 18 ms, that is 130 ms.
TIMES_MAX = 7.2
APPLICATION = """
async def app(scope, receive, send):
    pass
"""


def cpu_seconds(command: list[str]) -> float:
    """User and system time of a command."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with exit code {process.returncode}")
    return used.ru_utime + used.ru_stime


def measure(rounds: int) -> list[Figure]:
    """The slowest of the commands, on an application that runs."""
    fissile = str(Path(sys.executable).with_name("fissile"))
    with tempfile.TemporaryDirectory(prefix="fissile-bench-") as folder:
        Path(folder, "page.py").write_text(APPLICATION)
        Path(folder, "fissile.toml").write_text('[services.site]\nasgi = "page:app"\n')
        subprocess.run([fissile, "-C", folder, "up"], check=True, stdout=subprocess.DEVNULL)
        try:
            taken: dict[tuple[str, ...], list[float]] = {words: [] for words in ((), *LOOKS)}
            for _ in range(rounds):
                taken[()].append(cpu_seconds([sys.executable, "-c", "pass"]))
                for words in LOOKS:
                    taken[words].append(cpu_seconds([fissile, "-C", folder, *words]))
        finally:
            subprocess.run([fissile, "-C", folder, "down"], check=True, stdout=subprocess.DEVNULL)
    nothing = statistics.median(taken.pop(()))
    worst = max(taken, key=lambda words: statistics.median(taken[words]))
    times = statistics.median(taken[worst]) / nothing
    return [
        figure("commands that look: CPU of the slowest / python3 -c pass", times, "times", f"<= {TIMES_MAX}"),
        figure("commands that look: CPU of the slowest", statistics.median(taken[worst]) * 1000, "ms"),
    ]


if __name__ == "__main__":
    for one in measure(9):
        print(one.name, round(one.value, 2), one.unit)

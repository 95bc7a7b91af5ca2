"""Process 1 of a container passes signals on, reaps orphans, and ends as its child does."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for it")
PROGRAM = """
import os, signal, sys, time
from fissile.runtime.first import watch_over_child
from fissile.machine.process_marks import adopt_orphans
adopt_orphans()  # as process 1 does without asking
watch_over_child()
got = []
for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGQUIT, signal.SIGINT):
    signal.signal(number, lambda number, _: print(signal.Signals(number).name, flush=True))
print(os.getpid(), flush=True)
"""
ORPHANS = """
import subprocess
own = subprocess.Popen(["sh", "-c", "sleep 0.1; exit 7"])
for _ in range(20):
    subprocess.run(["sh", "-c", "sleep 0.05 >/dev/null & exit 0"])
print(own.wait(), flush=True)
"""


@pytest.fixture
def start() -> Iterator[Callable[[str], "subprocess.Popen[str]"]]:
    started: list[subprocess.Popen[str]] = []

    def make(code: str) -> "subprocess.Popen[str]":
        process = subprocess.Popen([sys.executable, "-c", PROGRAM + code], stdout=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield make
    for process in started:
        for pid in [*children(process.pid), process.pid] if process.poll() is None else []:
            os.kill(pid, signal.SIGKILL)
        process.communicate()


def line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def children(pid: int) -> list[int]:
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return list(map(int, file.read().split()))


def test_signals_are_passed_on(start: Callable[[str], "subprocess.Popen[str]"]) -> None:
    process = start("while True: signal.pause()")
    child = int(line(process))
    assert children(process.pid) == [child]
    for name in ("SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGQUIT", "SIGINT"):
        os.kill(process.pid, signal.Signals[name])
        assert line(process) == name
    os.kill(process.pid, signal.SIGTSTP)
    limit = time.monotonic() + 5
    while Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0] != "T":
        assert time.monotonic() < limit
    os.kill(process.pid, signal.SIGCONT)
    os.kill(process.pid, signal.SIGTERM)
    assert line(process) == "SIGTERM"
    os.kill(child, signal.SIGKILL)
    assert process.wait(5) == 128 + signal.SIGKILL


def test_orphans_are_reaped_and_nobody_s_status_is_stolen(start: Callable[[str], "subprocess.Popen[str]"]) -> None:
    process = start(ORPHANS + "time.sleep(600)")
    child = int(line(process))
    assert line(process) == "7"
    limit = time.monotonic() + 5
    while children(process.pid) != [child]:
        assert time.monotonic() < limit


def test_it_ends_as_its_child_does(start: Callable[[str], "subprocess.Popen[str]"]) -> None:
    process = start("sys.exit(3)")
    assert process.wait(5) == 3


def test_another_process_than_the_first_is_left_as_it_is() -> None:
    code = "import os; from fissile.runtime.first import be_first; p = os.getpid(); be_first(); print(p == os.getpid())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "True\n", done.stderr


def test_ctrl_c_at_a_terminal_comes_once() -> None:
    """The child is the group in the foreground of its terminal, and process 1 is not in it."""
    import pty

    code = PROGRAM.replace("print(os.getpid(), flush=True)", "print(os.getpid(), os.tcgetpgrp(0), flush=True)")
    pid, master = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-c", code + "while True: signal.pause()"])
    try:
        text = b""
        while b"\n" not in text:
            text += os.read(master, 1024)
        child, foreground = text.split()[:2]
        assert child == foreground
        os.write(master, b"\x03")
        text = b""
        while b"SIGINT" not in text:
            text += os.read(master, 1024)
        os.kill(pid, signal.SIGTERM)
        while b"SIGTERM" not in text:
            text += os.read(master, 1024)
        assert text.count(b"SIGINT") == 1
    finally:
        os.kill(int(child), signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(master)

"""Processes are found by descent, and by a mark that survives all by which a daemon leaves home."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from fissile.machine.procfs import Mark, ancestors, application_of, born, descendants, look, mark_of, session
from fissile.machine.reaper import reap

OURS = Mark("00c0ffee42", 7)
# Double fork, own session, no environment, nothing open: all that daemon(7) asks for.
DAEMON = """
import os, sys
if os.fork(): os.wait(); sys.stdin.read(); os._exit(0)
os.setsid()
if os.fork(): os._exit(0)
print(os.getpid(), flush=True)
os.closerange(0, 100)
os.execve(sys.executable, ["python", "-c", "import time; time.sleep(60)"], {})
"""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@contextmanager
def marked(code: str, own: Mark = OURS) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A marked program that prints the number of a process that it starts."""
    imports = "from fissile.machine import process_marks, procfs as descent"
    program = f"{imports}\nprocess_marks.put_on(0, descent.{own!r})\n{code}"
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    started = int(process.stdout.readline())
    try:
        yield process, started
    finally:
        process.kill()
        with suppress(ProcessLookupError):
            os.kill(started, 9)
        process.communicate()


def until(what: Callable[[], object]) -> None:
    limit = time.monotonic() + 10.0
    while not what():
        assert time.monotonic() < limit
        time.sleep(0.01)


def test_what_a_daemon_leaves_behind_is_not_its_mark() -> None:
    with marked(DAEMON) as (process, daemon):
        until(lambda: Path(f"/proc/{daemon}/environ").read_bytes() == b"")
        assert daemon not in descendants(process.pid)
        assert session(daemon) not in (session(process.pid), session(os.getpid()))
        assert mark_of(daemon) == mark_of(process.pid) == OURS


def test_a_child_is_found_in_both_directions() -> None:
    code = "import subprocess, sys\nprint(subprocess.Popen(['sleep', '60']).pid, flush=True); sys.stdin.read()"
    with marked(code) as (process, child):
        assert descendants(process.pid) == [child]
        assert ancestors(child)[:2] == [process.pid, os.getpid()]
        assert ancestors(os.getpid()) == ancestors(child)[2:]


def test_an_environment_is_a_mark_where_the_limit_was_lifted() -> None:
    environment = {"FISSILE_REPLICA": "00c0ffee42:shop@1:12"}
    process = subprocess.Popen(["sleep", "60"], env=environment)
    try:
        until(lambda: mark_of(process.pid) is not None)
        assert mark_of(process.pid) == Mark("00c0ffee42", 12)
    finally:
        process.kill()
        process.wait()


def test_nobody_is_marked_by_accident(tmp_path: Path) -> None:
    assert mark_of(os.getpid()) is None
    environment = {"FISSILE_REPLICA": "mine", "X_FISSILE_REPLICA": "00c0ffee42:a:1"}
    process = subprocess.Popen(["sleep", "60"], env=environment)
    try:
        assert mark_of(process.pid) is None
    finally:
        process.kill()
        process.wait()


def test_a_mark_is_one_folder_s_and_goes_with_it(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    ours = application_of(tmp_path / "a")
    assert ours != application_of(tmp_path / "b")
    assert Mark(ours, 1).application == ours
    (tmp_path / "a").rename(tmp_path / "c")
    assert application_of(tmp_path / "c") == ours


def test_a_replica_of_a_marked_zygote_is_marked_and_a_supervisor_that_it_starts_is_not() -> None:
    code = """
import os, sys
variables = process_marks.become("shop@1", 8)
assert variables == {"FISSILE_REPLICA": "00c0ffee42:shop@1:8"}, variables
os.environ.update(variables)
assert process_marks.own() == descent.Mark("00c0ffee42", 8)
process_marks.take_off()
assert process_marks.own() is None and "FISSILE_REPLICA" not in os.environ
print(os.getpid(), flush=True); sys.stdin.read()
"""
    with marked(code) as (_, itself):
        assert mark_of(itself) is None


def test_the_dead_are_neither_born_nor_looked_at() -> None:
    process = subprocess.Popen(["true"])
    until(lambda: (found := look(process.pid)) is not None and found.ended)
    assert born(process.pid) is None
    process.wait()
    assert look(process.pid) is None
    assert ancestors(process.pid) == []
    assert descendants(process.pid) == []
    assert mark_of(process.pid) is None


def test_only_the_adopted_are_reaped() -> None:
    code = """
import os, subprocess, sys, time
from fissile.machine import process_marks
from fissile.machine.procfs import descendants, look
from fissile.machine.reaper import reap
assert process_marks.adopt_orphans()
own = subprocess.Popen(["true"])
orphan = subprocess.run(["sh", "-c", "sleep 0.2 >/dev/null & echo $!"], stdout=subprocess.PIPE, text=True).stdout
limit = time.monotonic() + 10
while not all(look(pid) and look(pid).ended for pid in (own.pid, int(orphan))): assert time.monotonic() < limit
assert reap({own.pid}) == [int(orphan)]
assert descendants(os.getpid()) == [own.pid]
assert own.wait() == 0
print("right")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "right\n", done.stderr
    assert reap(set(descendants(os.getpid()))) == []

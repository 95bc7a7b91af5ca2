"""What is printed reaches the log files once, whatever becomes of these, of the reader and of the writers."""

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fissile.machine import spools
from fissile.machine.log_lines import COARSE, EXACT, parse
from fissile.machine.logfiles import LogFiles, collect
from fissile.machine.spools import FILE_BYTES_MAX, OUTPUT, PLACES, Collector, LogFile, make

WAIT_SECONDS_MAX = 10.0


def texts(*files: Path) -> list[bytes]:
    """The lines of files; a file that is not there, as between two steps of a rotation, has none."""
    return [parse(line).text for file in files for line in _bytes_of(file).splitlines()]


def _bytes_of(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except FileNotFoundError:
        return b""


def wait(condition: Callable[[], bool], what: str) -> None:
    limit = time.monotonic() + WAIT_SECONDS_MAX
    while not condition():
        assert time.monotonic() < limit, f"waited in vain: {what}"
        time.sleep(0.005)


class Writer:
    """A process's descriptors, in this process."""

    def __init__(self, logs: LogFiles, name: str) -> None:
        self.fd, self.err = logs.pipes(name)

    def write(self, data: bytes) -> None:
        os.write(self.fd, data)

    def end(self) -> None:
        os.close(self.fd)
        os.close(self.err)


@contextmanager
def logging(folder: Path) -> Iterator[LogFiles]:
    logs = LogFiles(folder / "logs")
    logs.begin()
    try:
        yield logs
    finally:
        logs.close()


def test_lines_come_with_their_times_and_spools_go_with_their_writers(tmp_path: Path):
    before = time.time()
    with logging(tmp_path) as logs:
        writer = Writer(logs, "cart.0")
        log = tmp_path / "logs" / "cart.0.log"
        assert log.read_bytes() == b""
        writer.write(b"one\ntwo\n")
        wait(lambda: texts(log) == [b"one", b"two"], "both lines")
        writer.write(b"a prompt: ")
        wait(lambda: texts(log)[2:] == [b"a prompt: "], "a line without its end")
        writer.write(b"and its answer\n")
        wait(lambda: texts(log)[2:] == [b"a prompt: and its answer"], "the rest of it")
        writer.end()
        wait(lambda: os.listdir(tmp_path / OUTPUT) == [], "nobody writes to the spool")
    (first, *_) = log.read_bytes().splitlines()
    found = parse(first)
    assert found.kind == EXACT
    from fissile.machine.log_lines import seconds_of

    assert before - 0.02 < seconds_of(found.stamp) < time.time()  # files have the time of the last tick
    assert not (tmp_path / OUTPUT).exists()


@pytest.mark.parametrize("how", ["moved", "removed", "cut", "folder removed"])
def test_a_log_file_that_somebody_takes_away_is_begun_anew(tmp_path: Path, how: str):
    with logging(tmp_path) as logs:
        writer = Writer(logs, "cart")
        folder = tmp_path / "logs"
        log = folder / "cart.log"
        writer.write(b"first\n")
        wait(lambda: texts(log) == [b"first"], "the first line")
        if how == "moved":
            log.rename(folder / "cart.log.1")
        elif how == "removed":
            log.unlink()
        elif how == "cut":
            os.truncate(log, 0)
        else:
            shutil.rmtree(folder)
        writer.write(b"second\n")
        wait(lambda: log.exists() and texts(log) == [b"second"], "the next line in a file at the same path")
        if how == "moved":
            assert texts(folder / "cart.log.1") == [b"first"]
        logs.say("cart", "our own")
        assert texts(log) == [b"second", b"our own"]
        writer.end()


def test_spools_that_somebody_removes_are_read_as_long_as_somebody_supervises(tmp_path: Path):
    with logging(tmp_path) as logs:
        writer = Writer(logs, "cart")
        log = tmp_path / "logs" / "cart.log"
        writer.write(b"first\n")
        wait(lambda: texts(log) == [b"first"], "the first line")
        shutil.rmtree(tmp_path / OUTPUT)
        writer.write(b"second\n")
        wait(lambda: texts(log) == [b"first", b"second"], "what is written to a removed spool")
        other = Writer(logs, "shop")
        other.write(b"third\n")
        wait(lambda: texts(tmp_path / "logs" / "shop.log") == [b"third"], "what is written to a new one")
        for one in (writer, other):
            one.end()


def test_lines_of_several_processes_in_one_file_are_not_mixed(tmp_path: Path):
    with logging(tmp_path) as logs:
        old, new = Writer(logs, "cart"), Writer(logs, "cart")
        log = tmp_path / "logs" / "cart.log"
        old.write(b"a line that")
        wait(lambda: texts(log) == [b"a line that"], "its beginning")
        new.write(b"another one\n")
        wait(lambda: texts(log) == [b"a line that", b"another one"], "the other one's")
        old.write(b" goes on\n")
        wait(lambda: texts(log) == [b"a line that", b"another one", b" goes on"], "the rest")
        for one in (old, new):
            one.end()


def test_a_shell_that_cuts_its_output_loses_nothing(tmp_path: Path):
    with logging(tmp_path) as logs:
        out, err = logs.pipes("cart")
        log = tmp_path / "logs" / "cart.log"
        seen: list[bytes] = []
        for text in ("one", "two", "another", "again", "again"):
            subprocess.run(["sh", "-c", f"echo {text} > /dev/stderr"], stderr=err, check=True)
            seen.append(text.encode())
            wait(lambda: texts(log) == seen, f"{text!r}, which opened the file anew")
        os.close(out)
        os.close(err)


def test_what_was_written_while_nobody_watched_says_so(tmp_path: Path):
    logs = LogFiles(tmp_path / "logs")
    writer = Writer(logs, "cart")
    writer.write(b"nobody sees it\n")
    collect(tmp_path / "logs")
    writer.write(b"nor that\n")
    collect(tmp_path / "logs")
    log = tmp_path / "logs" / "cart.log"
    assert texts(log) == [b"nobody sees it", b"nor that"]
    assert {parse(line).kind for line in log.read_bytes().splitlines()} == {COARSE}
    with logging(tmp_path):
        writer.write(b"this is seen\n")
        wait(lambda: len(texts(log)) == 3, "the next supervisor reads on")
        writer.write(b"and that\n")
        wait(lambda: len(texts(log)) == 4, "and goes on")
        assert parse(log.read_bytes().splitlines()[3]).kind == EXACT
        writer.end()


def test_there_is_one_reader_at_a_time(tmp_path: Path):
    os.close(make(tmp_path / OUTPUT, "cart"))
    first, second = (Collector(tmp_path / OUTPUT, tmp_path / "logs") for _ in range(2))
    assert first.acquire()
    assert not second.acquire()
    first.release()
    assert second.acquire()
    second.release()


@pytest.mark.parametrize("written", [0, 3, 30])
def test_a_reader_that_was_killed_while_it_wrote_is_followed_by_one_that_repeats_nothing(tmp_path: Path, written: int):
    """written: how much of the piece came into the log before the reader died; 30: all of it."""
    writer = make(tmp_path / OUTPUT, "cart")
    os.write(writer, b"first\n")
    collect(tmp_path / "logs")
    log = tmp_path / "logs" / "cart.log"
    (places,) = (tmp_path / OUTPUT).glob("*.place")
    size = log.stat().st_size
    os.write(writer, b"second\n")
    piece = (b"2026-01-31T08:00:00.000000Z~second\n", 6, 13)
    places.write_bytes(PLACES.pack(6, 13, log.stat().st_ino, size, size + len(piece[0]), False, 0))
    with open(log, "ab") as file:
        file.write(piece[0] if written == 30 else piece[0][:written])
    collect(tmp_path / "logs")
    assert texts(log) == [b"first", b"second"]
    os.close(writer)
    collect(tmp_path / "logs")
    assert not (tmp_path / OUTPUT).exists()


@pytest.mark.parametrize("collapses", [True, False])
def test_disk_space_of_what_was_read_is_given_back_and_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, collapses: bool
):
    if not collapses:  # as on file systems without it
        monkeypatch.setattr(spools, "COLLAPSE_RANGE", 0x4000)
    monkeypatch.setattr(spools, "RECLAIM_BYTES", 64 * 1024)
    writer = make(tmp_path / OUTPUT, "cart")
    (path,) = (tmp_path / OUTPUT).glob("*.spool")
    log = tmp_path / "logs" / "cart.log"
    wanted: list[bytes] = []
    collector = Collector(tmp_path / OUTPUT, tmp_path / "logs")
    assert collector.acquire()
    collector.find()
    for number in range(40):
        lines = [b"line %d of piece %d" % (line, number) for line in range(400)]
        os.write(writer, b"\n".join(lines) + b"\n")
        wanted += lines
        collector.read()
        if number == 20:  # another reader goes on in a spool of which the beginning is gone
            collector.release()
            assert collector.acquire()
            collector.find(unwatched=None)
    assert texts(log) == wanted
    assert path.stat().st_blocks * 512 <= 3 * 64 * 1024
    collector.release()
    os.close(writer)


def test_a_reader_that_was_killed_before_or_after_it_gave_space_back_is_followed_by_one_that_knows(tmp_path: Path):
    block = b"x" * 4095 + b"\n"
    for taken_off in (False, True):
        folder = tmp_path / str(taken_off)
        folder.mkdir()
        writer = make(folder / OUTPUT, "cart")
        (path,) = (folder / OUTPUT).glob("*.spool")
        os.write(writer, block * 4)
        # Either only a hole was made, or its length was taken off as well.
        if taken_off:
            os.ftruncate(writer, 4096)
        else:
            os.ftruncate(writer, 0)
            os.ftruncate(writer, 12288)
            os.write(writer, block)
        path.with_suffix(".place").write_bytes(PLACES.pack(16384, 16384, 0, 0, 0, True, 12288))
        os.write(writer, b"new\n")
        collect(folder / "logs")
        assert texts(folder / "logs" / "cart.log") == [b"new"], taken_off
        os.close(writer)


def test_what_is_closed_a_moment_after_its_process_is_gone_leaves_nothing_behind(tmp_path: Path):
    writer = make(tmp_path / OUTPUT, "cart")
    os.write(writer, b"last words\n")
    closes = threading.Timer(0.2, os.close, [writer])
    closes.start()
    collect(tmp_path / "logs", seconds_max=5.0)
    closes.join()
    assert texts(tmp_path / "logs" / "cart.log") == [b"last words"]
    assert not (tmp_path / OUTPUT).exists()


def test_files_are_two_at_most_and_hold_the_last_lines(tmp_path: Path):
    line = b"y" * 999 + b"\n"
    with logging(tmp_path) as logs:
        writer = Writer(logs, "cart")
        for _ in range(80):
            writer.write(line * 1000)
        writer.write(b"last\n")
        log = tmp_path / "logs" / "cart.log"
        wait(lambda: texts(log)[-1:] == [b"last"], "the last line")
        writer.end()
    files = sorted(path.name for path in (tmp_path / "logs").iterdir())
    assert files == ["cart.log", "cart.old"]
    assert all(path.stat().st_size < FILE_BYTES_MAX + 2 * 1024 * 1024 for path in (tmp_path / "logs").iterdir())


def test_what_was_killed_in_the_middle_of_a_step_leaves_nothing(tmp_path: Path):
    folder = tmp_path / OUTPUT
    os.close(make(folder, "cart"))
    (folder / "gone~1.place").touch()
    begun = folder / "begun~1.new"
    begun.touch()
    collect(tmp_path / "logs")
    assert os.listdir(folder) == [begun.name], "it may get its name yet"
    os.utime(begun, (0, 0))
    collect(tmp_path / "logs")
    assert not folder.exists()


def test_a_line_that_is_open_when_a_file_is_full_is_not_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(spools, "FILE_BYTES_MAX", 100)
    monkeypatch.setattr(spools, "OPEN_BYTES_MAX", 1000)
    with logging(tmp_path) as logs:
        writer = Writer(logs, "cart")
        log, old = tmp_path / "logs" / "cart.log", tmp_path / "logs" / "cart.old"
        writer.write(b"x" * 200)
        wait(lambda: texts(log) == [b"x" * 200], "the beginning")
        writer.write(b"y\n")
        wait(lambda: texts(log) == [b"x" * 200 + b"y"], "the end of it")
        writer.write(b"next\n")
        wait(lambda: texts(old, log) == [b"x" * 200 + b"y", b"next"] and old.exists(), "another file")
        # A line that never ends does not make a file that never does.
        writer.write(b"z" * 2000)
        wait(lambda: texts(log)[-1:] == [b"z" * 2000], "a long line")
        writer.write(b"z")
        wait(lambda: texts(log) == [b"z"], "the rest of it")
        writer.end()


def test_what_is_read_in_pieces_is_cut_between_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(spools, "FILE_BYTES_MAX", 100)
    monkeypatch.setattr(spools, "READ_BYTES", 32)
    writer = make(tmp_path / OUTPUT, "cart")
    os.write(writer, b"".join(b"line %03d\n" % number for number in range(50)))
    os.close(writer)
    collect(tmp_path / "logs")
    found = texts(tmp_path / "logs" / "cart.old", tmp_path / "logs" / "cart.log")
    assert found
    assert found == [b"line %03d" % number for number in range(50 - len(found), 50)]


def test_what_cannot_be_written_now_is_written_later(tmp_path: Path):
    with logging(tmp_path) as logs:
        writer = Writer(logs, "cart")
        log = tmp_path / "logs" / "cart.log"
        log.unlink()
        log.mkdir()  # nobody can write there
        writer.write(b"first\n")
        writer.write(b"second\n")
        time.sleep(0.1)  # it was tried
        log.rmdir()
        wait(lambda: log.exists() and texts(log) == [b"first", b"second"], "all of it")
        writer.end()


def test_a_line_that_did_not_fit_on_the_disk_is_not_there_by_half(tmp_path: Path):
    file = LogFile(tmp_path / "cart.log")
    file.ready()
    file.append(b"whole\n", self_ := object())
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    signal = pytest.importorskip("signal")
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
    try:
        with pytest.raises(OSError, match="too large"):
            file.append(b"too long\n", self_)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert (tmp_path / "cart.log").read_bytes() == b"whole\n"
    file.append(b"later\n", self_)
    assert (tmp_path / "cart.log").read_bytes() == b"whole\nlater\n"
    file.close()


PRINTS = """
import os, sys
from fissile.component.context import CallContext, call_context
from fissile.machine.stdio import unfailing_output
unfailing_output()
print("outside")
call_context.set(CallContext(7, 1))
print("within")
os.write(1, b"raw\\n")
print("trouble", file=sys.stderr)
file = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)
if os.fork() == 0:
    os.dup2(file, 1)
    print("elsewhere", flush=True)
    os._exit(0)
os.wait()
print("end")
"""


def test_what_a_replica_prints_tells_its_time_and_its_request(tmp_path: Path):
    with logging(tmp_path) as logs:
        writer = Writer(logs, "cart")
        other = tmp_path / "other"
        subprocess.run([sys.executable, "-c", PRINTS, str(other)], stdout=writer.fd, stderr=writer.err, check=True)
        writer.end()
    lines = [parse(line) for line in (tmp_path / "logs" / "cart.log").read_bytes().splitlines()]
    trace = b"%032x" % 7
    assert [(line.text, line.trace) for line in lines] == [
        (b"outside", b""),
        (b"within", trace),
        (b"raw", b""),
        (b"trouble", trace),
        (b"end", trace),
    ]
    assert other.read_bytes() == b"elsewhere\n"


def test_logs_of_what_runs_no_more_go_after_a_month(tmp_path: Path):
    with logging(tmp_path) as logs:
        quiet = Writer(logs, "quiet")
        folder = tmp_path / "logs"
        for name in ("gone.0.log", "gone.0.old", "young.log", "notes.txt"):
            (folder / name).write_text("x\n")
        old = time.time() - 31 * 86400
        for name in ("gone.0.log", "gone.0.old", "quiet.log", "notes.txt"):
            os.utime(folder / name, (old, old))
        collector = Collector(tmp_path / OUTPUT, folder)
        collector.find()
        collector.prune(time.time())
        collector.release()
        assert sorted(path.name for path in folder.iterdir()) == ["notes.txt", "quiet.log", "young.log"]
        quiet.end()


def test_a_spool_is_private(tmp_path: Path):
    before = os.umask(0)
    try:
        LogFiles(tmp_path / "logs").say("cart", "text")
        os.close(make(tmp_path / OUTPUT, "cart"))
    finally:
        os.umask(before)
    (path,) = (tmp_path / OUTPUT).iterdir()
    log = tmp_path / "logs" / "cart.log"
    modes = [f"{one.stat().st_mode & 0o777:o}" for one in (tmp_path / OUTPUT, path, tmp_path / "logs", log)]
    assert modes == ["700", "600", "700", "600"]


def test_where_no_spool_can_be_made_a_process_writes_to_its_log(tmp_path: Path):
    """As on a disk that is full."""
    (tmp_path / OUTPUT).write_text("no folder")
    logs = LogFiles(tmp_path / "logs")
    writer = Writer(logs, "cart")
    writer.write(b"text\n")
    writer.end()
    assert (tmp_path / "logs" / "cart.log").read_bytes() == b"text\n"


def test_a_long_spool_does_not_hold_up_who_says_something(tmp_path: Path):
    logs = LogFiles(tmp_path / "logs")
    writer = Writer(logs, "cart")
    for _ in range(100):
        writer.write(b"z" * 1024 * 1023 + b"\n")
    logs.begin()
    log = tmp_path / "logs" / "cart.log"
    wait(lambda: log.exists() and log.stat().st_size > 0, "it is being read")
    begun = time.monotonic()
    logs.say("fissile", "something")
    said = time.monotonic() - begun
    spool = next((tmp_path / OUTPUT).glob("*.place"))
    at = PLACES.unpack(spool.read_bytes())[1]
    logs.close()
    writer.end()
    assert at < 100 * 1024 * 1023 or said < 0.05


READS = """
import sys, time
from pathlib import Path
from fissile.machine import spools
from fissile.machine.logfiles import LogFiles
spools.RECLAIM_BYTES = 8192
LogFiles(Path(sys.argv[1])).begin()
print("reads", flush=True)
time.sleep(60)
"""


# By a reader: what is lost with a rotation would be lost rightly.
LINES_MAX = 100_000


def test_readers_that_are_killed_at_any_instant_lose_nothing_and_repeat_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    writer = make(tmp_path / OUTPUT, "cart")
    number = 0
    for killed in range(6):
        reader = subprocess.Popen([sys.executable, "-c", READS, str(tmp_path / "logs")], stdout=subprocess.PIPE)
        assert reader.stdout is not None
        reader.stdout.readline()
        limit = time.monotonic() + 0.01 + killed * 0.017
        while time.monotonic() < limit and number < LINES_MAX * (killed + 1):
            os.write(writer, b"".join(b"line %d\n" % (number + one) for one in range(50)))
            number += 50
        reader.kill()
        reader.wait()
        reader.stdout.close()
    monkeypatch.setattr(spools, "RECLAIM_BYTES", 8192)
    collect(tmp_path / "logs")
    os.close(writer)
    files = [path for name in ("cart.old", "cart.log") if (path := tmp_path / "logs" / name).exists()]
    assert texts(*files) == [b"line %d" % one for one in range(number)]


def test_printing_does_not_fail_over_a_full_disk():
    command = "from fissile.machine.stdio import unfailing_output as u; u(); print('x'); print('y', flush=True)"
    with open("/dev/full", "w") as full:
        result = subprocess.run([sys.executable, "-c", command], stdout=full, stderr=subprocess.PIPE, check=True)
    assert result.stderr == b""


def test_a_quiet_spool_is_not_read_again_by_the_next_supervisor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(spools, "RETRY_SECONDS", 0.02)
    writer = make(tmp_path / OUTPUT, "cart")
    os.write(writer, b"once\n")
    collect(tmp_path / "logs")
    collector = Collector(tmp_path / OUTPUT, tmp_path / "logs")
    assert collector.acquire()
    collector.find()
    for _ in range(4):
        collector.read()
        time.sleep(0.03)  # longer than what is written to without becoming longer may be under way
    collector.release()
    os.close(writer)
    assert texts(tmp_path / "logs" / "cart.log") == [b"once"]

"""Lines of several files by their times, read from their ends or from a time on, and followed."""

import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fissile.machine import logreader
from fissile.machine.log_lines import stamp
from fissile.machine.logreader import Reader, Row, Wanted, last, merged
from fissile.machine.spools import make

BEGIN = 1_700_000_000.0


def line(seconds: float, text: str) -> bytes:
    return stamp(BEGIN + seconds) + b" " + text.encode() + b"\n"


EVERYTHING = Wanted()


def reader(folder: Path, wanted: Wanted = EVERYTHING) -> Reader:
    return Reader(folder, folder / "spools", wanted, lambda name: True)


def shown(rows: object) -> list[str]:
    assert isinstance(rows, list) or hasattr(rows, "__next__")
    return [f"{row.name}: {row.text.decode()}" for row in rows]  # type: ignore[reportGeneralTypeIssues]


def test_lines_of_all_files_come_by_their_times_oldest_files_first(tmp_path: Path):
    (tmp_path / "a.log").write_bytes(line(5, "five") + line(7, "seven"))
    (tmp_path / "a.old").write_bytes(line(1, "one") + line(3, "three"))
    (tmp_path / "a.log.1").write_bytes(line(4, "four"))
    (tmp_path / "a.log.2.gz").write_bytes(b"packed")
    (tmp_path / "b.0.log").write_bytes(line(2, "two") + line(6, "six"))
    for name, at in (("a.old", BEGIN + 3), ("a.log.1", BEGIN + 4), ("a.log", BEGIN + 7)):
        os.utime(tmp_path / name, (at, at))
    assert shown(reader(tmp_path).first()) == [
        "a: one", "b.0: two", "a: three", "a: four", "a: five", "b.0: six", "a: seven",
    ]  # fmt: skip
    assert shown(reader(tmp_path, Wanted(last=3)).first()) == ["a: five", "b.0: six", "a: seven"]
    assert shown(reader(tmp_path, Wanted(last=0)).first()) == []
    between = Wanted(stamp(BEGIN + 4), stamp(BEGIN + 6))
    assert shown(reader(tmp_path, between).first()) == ["a: four", "a: five", "b.0: six"]
    assert shown(reader(tmp_path, between._replace(last=1)).first()) == ["b.0: six"]


def test_what_belongs_together_stays_together():
    def rows(name: str, *lines: tuple[float, str]) -> list[Row]:
        return [Row(stamp(BEGIN + at), b" ", b"", name, text.encode()) for at, text in lines]

    trouble = rows(
        "a",
        (0.000, "Traceback (most recent call last):"),
        (0.001, '  File "a.py", line 1, in f'),
        (0.002, "ValueError: x"),
        (0.003, ""),
        (0.004, "During handling of the above exception, another exception occurred:"),
        (0.005, ""),
        (0.006, "Traceback (most recent call last):"),
        (0.007, '  File "a.py", line 2, in g'),
        (0.008, "KeyError: y"),
        (0.010, "next"),
    )
    javascript = rows("c", (0.0015, "Error: boom"), (0.0035, "    at main.js:1"), (9.0, "  much later"))
    others = rows("b", *((at / 1000 + 0.0005, str(at)) for at in range(10)))
    found = list(merged([iter(trouble), iter(others), iter(javascript)]))
    names = "".join(row.name for row in found)
    assert "a" * 9 in names
    assert "cc" in names
    assert found[-1].text == b"  much later"
    assert [row for row in found if row.name == "a"] == trouble
    assert [row for row in found if row.name == "b"] == others


@given(st.lists(st.lists(st.integers(0, 30), max_size=20), max_size=4))
def test_the_order_within_one_file_never_changes(files: list[list[int]]):
    streams = [
        [Row(stamp(BEGIN + at), b" ", b"", str(number), b"%d" % place) for place, at in enumerate(sorted(times))]
        for number, times in enumerate(files)
    ]
    found = list(merged([iter(one) for one in streams]))
    assert [row.stamp for row in found] == sorted(row.stamp for one in streams for row in one)
    for number, one in enumerate(streams):
        assert [row for row in found if row.name == str(number)] == one


@given(st.lists(st.integers(0, 40), max_size=30), st.integers(0, 40), st.integers(1, 9))
def test_the_end_of_a_file_is_what_its_end_is(sizes: list[int], count: int, block: int):
    import tempfile

    data = b"".join(b"x" * size + b"\n" for size in sizes)
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(logreader, "READ_BYTES", block)
        for end in (b"", b"no end"):
            (Path(folder) / "a.log").write_bytes(data + end)
            wanted = (data + end).decode().splitlines()
            assert last(Path(folder), "a", count) == wanted[max(0, len(wanted) - count) :]


def test_a_time_is_found_without_reading_all(tmp_path: Path):
    (tmp_path / "a.log").write_bytes(b"".join(line(at, f"line {at}\n  and more of it") for at in range(20_000)))
    os.utime(tmp_path / "a.log", (BEGIN + 20_000, BEGIN + 20_000))
    found = shown(reader(tmp_path, Wanted(stamp(BEGIN + 15_000))).first())
    assert found[0] == "a: line 15000"
    assert len(found) == 10_000
    assert shown(reader(tmp_path, Wanted(stamp(BEGIN + 30_000))).first()) == []


def test_lines_of_one_request_are_found_in_all_files(tmp_path: Path):
    trace = b"%032x" % 7
    ours = [stamp(BEGIN + at) + b"#" + trace + b" of the request\n" for at in range(2)]
    (tmp_path / "a.log").write_bytes(line(0, "other") + ours[0] + line(2, "other"))
    (tmp_path / "b.log").write_bytes(ours[1] + ours[1].replace(trace, b"%032x" % 8))
    assert shown(reader(tmp_path, Wanted(trace=trace)).first()) == ["a: of the request", "b: of the request"]
    assert shown(reader(tmp_path, Wanted(trace=trace, last=1)).first()) == ["b: of the request"]


def test_lines_without_a_time_belong_to_the_one_before(tmp_path: Path):
    (tmp_path / "a.log").write_bytes(b"old style\n" + line(1, "one") + b"Fatal error\nmore\n" + line(0, "set back"))
    found = list(reader(tmp_path).first())
    assert [row.text for row in found] == [b"old style", b"one", b"Fatal error", b"more", b"set back"]
    assert [row.stamp for row in found] == [b"", *[stamp(BEGIN + 1)] * 4]


def test_what_is_added_is_followed_whatever_becomes_of_the_files(tmp_path: Path):
    log = tmp_path / "a.log"
    log.write_bytes(line(1, "one"))
    follower = reader(tmp_path)
    assert shown(follower.first()) == ["a: one"]
    assert follower.more() == []
    with open(log, "ab") as file:
        file.write(line(2, "two"))
    assert shown(follower.more()) == ["a: two"]
    with open(log, "ab") as file:
        file.write(line(3, "before it is moved"))
    log.rename(tmp_path / "a.log.1")
    log.write_bytes(line(4, "in the new one"))
    (tmp_path / "b.log").write_bytes(line(3.5, "somebody new"))
    assert shown(follower.more()) == ["a: before it is moved", "b: somebody new", "a: in the new one"]
    log.write_bytes(line(5, "cut"))
    assert shown(follower.more()) == ["a: cut"]
    log.unlink()
    assert follower.more() == []
    log.write_bytes(line(6, "made anew"))
    assert shown(follower.more()) == ["a: made anew"]
    log.unlink()
    (tmp_path / "b.log").unlink()
    assert follower.more() == []


def test_a_line_without_its_end_is_shown_after_a_while_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    log = tmp_path / "a.log"
    log.write_bytes(line(1, "one"))
    follower = reader(tmp_path)
    assert len(list(follower.first())) == 1
    with open(log, "ab", buffering=0) as file:
        file.write(line(2, "name? ")[:-1])
        assert follower.more() == []
        monkeypatch.setattr(logreader, "QUIET_SECONDS", 0.0)
        (row,) = follower.more()
        assert (row.text, row.whole) == (b"name? ", False)
        assert follower.more() == []
        file.write(b"ann\n")
        (row,) = follower.more()
        assert (row.text, row.whole, row.goes_on) == (b"ann", True, True)


def test_where_nobody_supervises_what_was_printed_is_shown_once(tmp_path: Path):
    folder = tmp_path / "logs"
    folder.mkdir()
    writer = make(tmp_path / "output", "a")
    os.write(writer, b"one\n")
    first = Reader(folder, tmp_path / "output", Wanted(), lambda name: True)
    (row,) = first.first()
    assert (row.text, row.coarse) == (b"one", True)
    os.write(writer, b"two\n")
    assert shown(first.more()) == ["a: two"]
    os.close(writer)
    assert first.more() == []
    second = Reader(folder, tmp_path / "output", Wanted(), lambda name: True)
    assert shown(second.first()) == ["a: one", "a: two"]


def test_the_end_of_big_files_is_read_alone(tmp_path: Path):
    """Whoever looks at the last lines does not wait for 32 MiB."""
    (tmp_path / "a.log").write_bytes(line(1, "x" * 90) * 280_000)
    begun = time.process_time()
    assert len(list(reader(tmp_path, Wanted(last=5)).first())) == 5
    assert time.process_time() - begun < 0.1

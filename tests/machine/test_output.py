"""Output of many processes, merged line by line, with nothing lost."""

import os
import threading
import time

from hypothesis import given
from hypothesis import strategies as st

from fissile.machine.output import LINE_BYTES_MAX, Lines, Logs, writer


class Sink:
    def __init__(self) -> None:
        self.data = b""

    def __call__(self, data: bytes) -> None:
        self.data += data


def test_lines_carry_their_service_and_stream():
    out, err = Sink(), Sink()
    logs = Logs(out, err, coloured=False, width=7)
    first_out, first_err = logs.pipes("cart")
    second_out, second_err = logs.pipes("catalog")
    os.write(first_out, b"one\ntwo")
    os.write(second_out, b"three\n")
    os.write(first_out, b" halves\n")
    os.write(first_err, b"trouble\n")
    os.write(second_err, b"no end of line")
    for fd in (first_out, first_err, second_out, second_err):
        os.close(fd)
    logs.close()
    assert sorted(out.data.splitlines()) == [b"cart    | one", b"cart    | two halves", b"catalog | three"]
    assert sorted(err.data.splitlines()) == [b"cart    | trouble", b"catalog | no end of line"]


def test_what_was_printed_is_written_though_the_pipe_is_still_held():
    out = Sink()
    logs = Logs(out, out, coloured=False)
    write, other = logs.pipes("a")
    os.write(write, b"x" * 60_000 + b"\nlast words\n")
    logs.close()  # a process that outlives its service may hold the other end for ever
    assert out.data.splitlines()[-1] == b"a | last words"
    os.close(write)
    os.close(other)


def test_colours_only_where_they_are_wanted():
    plain, coloured = Sink(), Sink()
    for sink, wanted in ((plain, False), (coloured, True)):
        logs = Logs(sink, sink, coloured=wanted)
        logs.say("cart", "hello")
        logs.close()
    assert plain.data == b"cart | hello\n"
    assert coloured.data.startswith(b"\x1b[")


def test_a_reader_that_stands_still_holds_up_nobody_who_supervises():
    go_on = threading.Event()
    seen = Sink()

    def slow(data: bytes) -> None:
        go_on.wait()
        seen(data)

    logs = Logs(slow, slow, coloured=False)
    write, other = logs.pipes("a")
    os.write(write, b"1\n")
    os.write(write, b"2\n")  # returns: the terminal's trouble is not ours
    go_on.set()
    os.close(write)
    os.close(other)
    logs.close()
    assert seen.data == b"a | 1\na | 2\n"


def test_a_reader_that_is_gone_ends_nothing():
    read_end, write_end = os.pipe()
    os.close(read_end)
    stream = os.fdopen(write_end, "wb", buffering=0)
    writer(stream)(b"into the void\n")
    stream.close()
    writer(stream)(b"and after the end\n")


def test_a_long_line_is_cut_into_bounded_pieces():
    lines = Lines()
    found = lines.feed(b"x" * (3 * LINE_BYTES_MAX + 5)) + lines.feed(b"\n") + lines.finish()
    assert [len(line) for line in found] == [LINE_BYTES_MAX] * 3 + [5]


@given(st.lists(st.binary(max_size=50), max_size=20), st.integers(1, 30))
def test_cutting_does_not_depend_on_how_the_bytes_arrive(parts: list[bytes], size: int):
    whole = b"\n".join(parts)
    lines = Lines()
    found = [line for i in range(0, len(whole), size) for line in lines.feed(whole[i : i + size])] + lines.finish()
    expected = [line.removesuffix(b"\r") for line in whole.split(b"\n")[:-1]]
    last = whole.split(b"\n")[-1]
    assert found == expected + ([last] if last else [])


def test_a_line_without_its_end_is_shown_soon_and_goes_on_where_it_stands():
    out = Sink()
    logs = Logs(out, out, coloured=False)
    write, other = logs.pipes("a")
    os.write(write, b"name? ")
    seen(out, b"a | name? ")
    os.write(write, b"ann\n")
    seen(out, b"a | name? ann\n")
    os.write(write, b"again? ")
    seen(out, b"a | name? ann\na | again? ")
    logs.say("b", "interrupts")
    os.write(write, b"bob")
    seen(out, b"a | name? ann\na | again? \nb | interrupts\na | bob")
    logs.say("b", "once more")
    os.write(write, b"\nlast\n")
    os.close(write)
    os.close(other)
    logs.close()
    assert out.data == b"a | name? ann\na | again? \nb | interrupts\na | bob\nb | once more\na | last\n"


def test_the_last_line_has_an_end_though_its_writer_ends_without_one():
    out = Sink()
    logs = Logs(out, out, coloured=False)
    write, other = logs.pipes("a")
    os.write(write, b"bye")
    seen(out, b"a | bye")
    os.close(write)
    os.close(other)
    logs.close()
    assert out.data == b"a | bye\n"


def seen(sink: Sink, data: bytes) -> None:
    limit = time.monotonic() + 5.0
    while sink.data != data:
        assert time.monotonic() < limit, sink.data
        time.sleep(0.005)

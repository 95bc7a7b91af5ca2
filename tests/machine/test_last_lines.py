"""What a process printed since it was started."""

import os
import subprocess
import sys
from pathlib import Path

from fissile.machine.last_lines import LINE_CHARACTERS_MAX, LINES_MAX, READ_BYTES, LastLines, nothing_to_run, told


def test_they_are_of_this_start_alone_and_few(tmp_path: Path):
    file = tmp_path / "back.log"
    file.write_text("an older start\n")
    with file.open("a") as log:
        lines = LastLines(log.fileno())
        assert lines.read() == ()
        log.writelines(f"line {number}\n\n" for number in range(3 * LINES_MAX))
        log.write("without an end")
    found = lines.read()
    assert len(found) == LINES_MAX
    assert found[-2:] == (f"line {3 * LINES_MAX - 1}", "without an end")
    lines.close()
    assert lines.read() == ()


def test_a_file_that_was_cut_or_moved_away_is_read_on(tmp_path: Path):
    file = tmp_path / "back.log"
    file.write_text("an older start\n" * 10)
    with file.open("a") as log:
        lines = LastLines(log.fileno())
        file.rename(tmp_path / "moved")
        os.ftruncate(log.fileno(), 0)
        log.write("after that\n")
    assert lines.read() == ("after that",)
    lines.close()


def test_long_lines_are_cut_and_no_part_of_a_line_is_shown_as_one(tmp_path: Path):
    file = tmp_path / "back.log"
    with file.open("wb") as log:
        lines = LastLines(log.fileno())
        log.write(b"x" * READ_BYTES + b"\n\xff" + b"y" * 2 * LINE_CHARACTERS_MAX + b"\n")
    (found,) = lines.read()
    assert len(found) == LINE_CHARACTERS_MAX
    assert found.endswith("y")
    lines.close()


def test_of_a_pipe_nothing_is_known():
    read_end, write_end = os.pipe()
    lines = LastLines(write_end)
    os.write(write_end, b"said\n")
    assert lines.read() == ()
    assert os.read(read_end, 10) == b"said\n"
    lines.close()
    os.close(read_end)
    os.close(write_end)


def test_what_the_trouble_says_is_not_said_again():
    assert told(("one", "cannot start: no", "no"), "back does not come up: no\n  → mend it") == ("one", "no")
    several = ("cannot start: RuntimeError: no", "database", "  → mend it", "bye")
    assert told(several, "back: RuntimeError: no\ndatabase\n  → mend it") == ("bye",)


def test_a_program_that_is_not_there_is_told_from_one_that_waits_for_something(tmp_path: Path):
    (tmp_path / "wrong.py").write_text("def (:\n")
    (tmp_path / "waits.py").write_text("raise ConnectionRefusedError(111, 'Connection refused')\n")
    for words, hopeless in (
        ([sys.executable, "missing.py"], True),
        ([sys.executable, "-m", "missing"], True),
        ([sys.executable, "-m", "missing.below"], True),
        ([sys.executable, "wrong.py"], True),
        ([sys.executable, "-c", "import missing"], True),
        (["sh", "missing.sh"], True),
        (["make", "missing"], True),
        ([sys.executable, "waits.py"], False),
        (["sh", "-c", "echo no such file; exit 1"], False),
    ):
        result = subprocess.run(words, cwd=tmp_path, stderr=subprocess.PIPE, text=True, check=False)
        assert result.returncode
        missing = nothing_to_run(result.stderr.splitlines()) or result.returncode == 127
        assert missing is hopeless, (words, result.stderr)
    for line in (
        "Error: Cannot find module '/app/index.js'",
        'npm error Missing script: "start"',
        'ERROR:    Error loading ASGI app. Could not import module "main".',
    ):
        assert nothing_to_run(["", line, "Node.js v20.20.2"]), line

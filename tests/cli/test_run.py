"""`fissile run`: what it prints, how it ends, and what a mistake gets."""

import http.client
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from background import background
from commands import WAIT_SECONDS_MAX, Run, fissile
from supervised import left_in, lives

BOTH = pytest.mark.parametrize("topology", ["monolith", "microservices"])


def text_at(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read().decode()


def test_it_serves_its_pages_and_ends_by_ctrl_c(running: Run):
    assert int(text_at(f"{running.page}/back")) in [running.process.pid, *running.started]
    assert "sample is up as " in running.output
    assert "\x1b" not in running.output


@BOTH
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_other_signals_end_it_as_well(folder: Path, topology: str, number: signal.Signals):
    with Run(folder, "--topology", topology) as run:
        run.end(number)


@BOTH
def test_a_request_in_flight_is_answered_before_the_end(folder: Path, topology: str):
    with Run(folder, "--topology", topology) as run:
        kept = http.client.HTTPConnection(run.page.removeprefix("http://"), timeout=10)
        kept.request("GET", "/")
        assert kept.getresponse().read()
        kept.request("GET", "/slow")
        run.wait_for("slow page begins")
        run.process.send_signal(signal.SIGINT)
        answer = kept.getresponse()
        assert (answer.status, answer.read().isdigit()) == (200, True)
        kept.close()
        assert run.process.wait(WAIT_SECONDS_MAX) == 0


@pytest.mark.parametrize(("topology", "says"), [("monolith", True), ("microservices", False)])
def test_one_process_says_that_it_holds_nobody_to_limits(folder: Path, topology: str, says: bool):
    with (folder / "fissile.toml").open("a") as file:
        file.write("\n[services.back.limits]\nfiles = 200\n")
    with Run(folder, "--topology", topology) as run:
        assert text_at(run.page)
        assert ("`limits`, `isolate` and `user` have no effect" in run.output) == says
        run.end(signal.SIGTERM)


def test_a_second_ctrl_c_ends_it_at_once(folder: Path):
    with Run(folder, "--topology", "microservices") as run:
        assert fissile("call", "Back.deaf", "--path", folder).returncode == 0
        run.process.send_signal(signal.SIGINT)
        run.wait_for("pages stops")
        begun = time.monotonic()
        run.end()
        assert time.monotonic() - begun < 5.0


def test_services_end_from_the_outside_in(folder: Path):
    with Run(folder, "--topology", "microservices") as run:
        run.end()
        assert run.output.index("pages stops") < run.output.index("back stops")


def test_a_killed_run_takes_its_replicas_with_it_and_the_next_one_starts(folder: Path):
    with Run(folder, "--topology", "microservices") as run:
        run.process.kill()
        run.process.wait()
        limit = time.monotonic() + WAIT_SECONDS_MAX
        while any(lives(pid) for pid in run.started):
            assert time.monotonic() < limit, "replicas outlive their foreground run"
            time.sleep(0.01)
    assert "nothing runs in" in fissile("call", "Back.pid", "--path", folder).stderr
    with Run(folder, "--topology", "microservices") as run:
        assert text_at(f"{run.page}/back")
        run.end()


def test_what_ran_in_the_foreground_is_nothing_that_up_could_go_on_with(folder: Path):
    with Run(folder, "--topology", "microservices") as run:
        run.end()
    with background(folder) as app:
        app.up()
        said = (folder / ".fissile" / "logs" / "fissile.log").read_text()
        assert "instead of what ran last" not in said
        app.down()


def test_a_module_without_a_file(folder: Path):
    (folder / "fissile.toml").unlink()
    with Run("sample:app", cwd=folder) as run:
        assert text_at(run.page) == str(run.process.pid)
        run.end()


def test_status_and_restart(folder: Path):
    with Run(folder, "--topology", "microservices") as run:
        before = text_at(f"{run.page}/back")
        shown = fissile("status", folder).stdout
        assert "back     1/1           0  concurrency" in shown
        assert re.search(rf"^back\.0   ready  .* {before}  ", shown, re.MULTILINE), shown
        assert fissile("restart", "back", "--path", folder).stdout == "back: 1 replica replaced\n"
        assert text_at(f"{run.page}/back") != before
        unknown = fissile("restart", "bck", "--path", folder)
        assert unknown.returncode == 2
        assert "no service 'bck'; did you mean back?" in unknown.stderr
        (folder / "back-cannot-start").touch()
        broken = fissile("restart", "back", "--path", folder)
        assert broken.returncode == 1
        assert "the old replica serves on" in broken.stderr
        run.started += [int(text_at(f"{run.page}/back"))]
        run.end(traceback=True)  # of what could not start


def test_a_monolith_has_no_service_to_restart_alone(folder: Path):
    with Run(folder) as run:
        result = fissile("restart", "back", "--path", folder)
        assert result.returncode == 2
        assert "runs as one process" in result.stderr
        run.end()


def mistake(folder: Path, *options: str) -> str:
    """What a run with a mistake says: exit code 2, no traceback, nothing left."""
    result = fissile("run", folder, "--port", "0", *options)
    assert result.returncode == 2, result
    assert "Traceback" not in result.stderr
    assert result.stderr.startswith("fissile: ")
    assert "→" in result.stderr
    assert left_in(folder) <= {"journal.db"}
    return result.stderr


@BOTH
def test_a_missing_file(tmp_path: Path, topology: str):
    assert "there is no fissile.toml" in mistake(tmp_path, "--topology", topology)


@BOTH
def test_a_mistake_in_the_file(folder: Path, topology: str):
    (folder / "fissile.toml").write_text('app = "sample:app"\n[service.back]\nreplicas = 2\n')
    assert "unknown key 'service' at the top (did you mean 'services'?)" in mistake(folder, "--topology", topology)


@BOTH
def test_a_missing_module(folder: Path, topology: str):
    (folder / "fissile.toml").write_text('app = "smple:app"\n')
    assert "there is no module 'smple'" in mistake(folder, "--topology", topology)


@BOTH
def test_an_import_error_in_the_application(folder: Path, topology: str):
    (folder / "sample.py").write_text("x = 1\nprint(1 / 0)\n")
    message = mistake(folder, "--topology", topology)
    assert "ZeroDivisionError: division by zero" in message
    assert "sample.py, line 2" in message


@BOTH
def test_a_wrong_value_for_a_component(folder: Path, topology: str):
    with (folder / "fissile.toml").open("a") as file:
        file.write("\n[components.Back]\nsecrt = 3\n")
    assert "unknown key 'secrt'" in mistake(folder, "--topology", topology)


@BOTH
def test_a_component_that_cannot_start(folder: Path, topology: str):
    (folder / "back-cannot-start").touch()
    result = fissile("run", folder, "--port", "0", "--topology", topology)
    assert result.returncode == 2
    assert "the database is not there" in result.stderr
    assert re.search(r'File ".*/sample.py", line \d+, in start', result.stderr)  # the author's place, and none of ours
    assert not re.search(r'File ".*fissile/', result.stderr)
    assert left_in(folder) <= {"journal.db"}


@BOTH
def test_an_occupied_port(folder: Path, topology: str):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        result = fissile("run", folder, "--port", str(port), "--topology", topology)
    assert result.returncode == 2
    assert f"port {port}, wanted for Pages, is taken by another program" in result.stderr
    assert "choose another with --port" in result.stderr
    assert "Traceback" not in result.stderr
    assert left_in(folder) <= {"journal.db"}


@BOTH
def test_two_on_one_folder(folder: Path, topology: str):
    with Run(folder, "--topology", topology) as run:
        result = fissile("run", folder, "--port", "0", "--topology", topology)
        assert result.returncode == 2
        assert f"this application runs already (pid {run.process.pid})" in result.stderr
        run.end()


def test_a_wrong_option_is_exit_code_2():
    assert fissile("run", "--prt", "3").returncode == 2
    assert fissile("run", "--port", "99999").returncode == 2


WORDS = """
from fissile import Application, component

@component
class Words:
    async def letters(self, word: str) -> tuple[str, ...]:
        return list(word)

@component
class Asks:
    def __init__(self, words: Words) -> None:
        self.words = words

    async def kind(self) -> str:
        return type(await self.words.letters("ab")).__name__

app = Application(Asks, Words, name="words")
"""


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        (("--topology", "monolith"), "tuple"),
        (("--topology", "monolith", "--calls", "direct"), "list"),
        (("--topology", "microservices"), "tuple"),
    ],
)
def test_values_pass_as_between_services_unless_calls_are_direct(tmp_path: Path, options: tuple[str, ...], kind: str):
    folder = tmp_path / "words"
    folder.mkdir()
    (folder / "words.py").write_text(WORDS)
    (folder / "fissile.toml").write_text('app = "words:app"\n')
    with Run(folder, *options) as run:
        found = fissile("call", "Asks.kind", "--path", folder)
        assert kind in found.stdout, found.stdout + found.stderr
        run.end()


@BOTH
@pytest.mark.parametrize("closed", ["0<&-", "1>&-", "0<&- 1>&- 2>&-"])
def test_it_serves_and_ends_where_its_parent_has_closed_what_is_standard(folder: Path, topology: str, closed: str):
    command = [sys.executable, "-m", "fissile", "run", str(folder), "--port", "0", "--topology", topology]
    process = subprocess.Popen(["sh", "-c", f'exec "$@" {closed}', "sh", *command])
    try:
        limit = time.monotonic() + WAIT_SECONDS_MAX
        while not (folder / ".fissile" / "endpoints.json").exists():
            assert process.poll() is None
            assert time.monotonic() < limit
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        assert process.wait(WAIT_SECONDS_MAX) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()

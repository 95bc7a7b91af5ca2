"""A whole application in an ASGI server that knows nothing of it."""

import re
import subprocess
import sys
from pathlib import Path

import httpx

APPLICATION = """
import os

from fissile import Application, component


@component
class Counter:
    async def start(self) -> None:
        print("counter started", flush=True)

    async def stop(self) -> None:
        print("counter stopped", flush=True)

    async def next(self, by: int) -> int:
        return by + 1


@component
class Pages:
    def __init__(self, counter: Counter) -> None:
        self.counter = counter

    async def start(self) -> None:
        if os.environ.get("BROKEN"):
            raise ValueError("no pages today")

    def http(self):
        async def app(scope, receive, send):
            text = str(await self.counter.next(41)).encode()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": text})

        return app


app = Application(Pages, Counter, name="counting")
asgi = app.asgi()
"""


def served(folder: Path, **environ: str) -> "subprocess.Popen[str]":
    (folder / "counting.py").write_text(APPLICATION)
    return subprocess.Popen(
        [sys.executable, "-m", "uvicorn", "counting:asgi", "--port", "0"],
        cwd=folder,
        env={"PATH": "", **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_the_whole_application_runs_under_plain_uvicorn(tmp_path: Path) -> None:
    process = served(tmp_path)
    assert process.stdout is not None
    lines: list[str] = []
    try:
        for line in process.stdout:
            lines.append(line)
            found = re.search(r"running on (http://\S+)", line)
            if found:
                assert httpx.get(found[1]).text == "42"
                break
        assert "counter started\n" in lines
    finally:
        process.terminate()
    rest, _ = process.communicate(timeout=10)
    assert "counter stopped\n" in rest
    assert process.returncode in (0, -15), rest


def test_a_failing_start_ends_the_server_and_says_why(tmp_path: Path) -> None:
    output, _ = (process := served(tmp_path, BROKEN="1")).communicate(timeout=20)
    assert process.returncode == 3
    assert "no pages today" in output

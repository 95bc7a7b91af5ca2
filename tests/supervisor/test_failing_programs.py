"""A program that cannot be run fails the start at once, and its restarts are rare."""

import os
from pathlib import Path

import pytest
from supervised import Output, running, until

from fissile import ConfigError
from fissile.errors import FissileError
from fissile.settings.load import load
from fissile.supervisor.supervisor import Supervisor

SERVER = """#!/usr/bin/env python3
import http.server, os
http.server.HTTPServer(("127.0.0.1", int(os.environ["PORT"])), http.server.SimpleHTTPRequestHandler).serve_forever()
"""


def program(folder: Path, text: str, mode: int = 0o755) -> Path:
    file = folder / "serve"
    file.write_text(text)
    file.chmod(mode)
    return file


async def test_a_missing_program_fails_at_once_and_all_of_them_are_named(folder: Path):
    with (folder / "fissile.toml").open("a") as file:
        file.write('\n[services.one]\ncommand = "nothing-at-all"\n[services.two]\ncommand = "nothing-else"\n')
    output = Output()
    supervisor = Supervisor(load(folder), "microservices", port=0, logs=output.logs())
    with pytest.raises(ConfigError, match=r"(?s)'nothing-at-all'.*'nothing-else'"):
        await supervisor.start()
    assert b"back starts" not in output.out


async def test_a_shell_that_finds_no_program_is_not_asked_three_times(folder: Path):
    with (folder / "fissile.toml").open("a") as file:
        file.write("\n[services.one]\ncommand = \"sh -c 'echo tried; nothing-at-all'\"\n")
    output = Output()
    supervisor = Supervisor(load(folder), "microservices", port=0, logs=output.logs())
    with pytest.raises(FissileError, match=r"one cannot be started: .* exit code 127"):
        await supervisor.start()
    assert output.out.count(b"tried") == 1


async def test_a_program_that_was_removed_is_looked_for_seldom_and_status_says_why(folder: Path):
    file = program(folder, SERVER)
    with (folder / "fissile.toml").open("a") as settings:
        settings.write('\n[services.web]\ncommand = "./serve"\n')
    async with running(folder) as app:
        text = file.read_text()
        file.unlink()
        os.kill(app.pids("web")[0], 9)

        def trouble() -> str:
            return next(one.trouble for one in app.supervisor.status().services if one.name == "web")

        await until(lambda: "there is no program './serve'" in trouble(), "status says why")
        count = app.output.err.count(b"there is no program")
        assert count == 1
        program(folder, text)
        await until(lambda: app.ready("web") == 1, "it is started once it is there")
        assert app.output.err.count(b"there is no program") == count

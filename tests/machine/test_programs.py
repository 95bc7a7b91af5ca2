"""What cannot be run is told before anything starts, and once."""

import os
from pathlib import Path

import pytest

from fissile import ConfigError
from fissile.machine.programs import check_program, check_programs
from fissile.settings.schema import ServiceSettings, Settings


def program(folder: Path, text: str, mode: int = 0o755) -> Path:
    file = folder / "serve"
    file.write_text(text)
    file.chmod(mode)
    return file


@pytest.mark.parametrize(
    ("command", "text", "mode", "why"),
    [
        ("no-such-program", "", 0o755, "there is no program 'no-such-program'"),
        ("./no-such-program", "", 0o755, "there is no program './no-such-program'"),
        ("MODE=x node server.js", "", 0o755, "run by no shell"),
        ("./serve", "#!/bin/sh\n", 0o644, "may not be executed"),
        ("./serve", "#!/no/such/interpreter -x\n", 0o755, "names /no/such/interpreter as its interpreter"),
        ("./serve", "#!/bin/sh\r\nexit\r\n", 0o755, "its lines end as on Windows"),
        (".", "", 0o755, "is not a program"),
    ],
)
def test_what_execve_would_refuse_is_told_in_words(tmp_path: Path, command: str, text: str, mode: int, why: str):
    program(tmp_path, text, mode)
    with pytest.raises(ConfigError) as error:
        check_program("web", ServiceSettings(command=command), (tmp_path,), os.environ)
    assert why in error.value.message
    assert error.value.remedy


def test_what_can_be_run_is_found_as_execve_finds_it(tmp_path: Path):
    program(tmp_path, "#!/bin/sh\n")
    for command in ("./serve", "serve", "sh serve", str(tmp_path / "serve")):
        check_program("web", ServiceSettings(command=command), (tmp_path,), os.environ)
    own = ServiceSettings(command="serve", environment={"PATH": str(tmp_path)})
    check_program("web", own, (tmp_path / "..",), {"PATH": "/nowhere"})
    with pytest.raises(ConfigError, match="there is no folder"):
        check_program("web", ServiceSettings(command="sh", folder="nowhere"), (tmp_path,), os.environ)


def test_what_serves_wsgi_is_asked_for_before_anything_starts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    settings = Settings(root=str(tmp_path), services={"site": ServiceSettings(wsgi="main:app")})
    check_programs(settings, ["site"], (tmp_path,), {})
    monkeypatch.setattr("fissile.machine.programs.WSGI_SERVER", "no_such_server")
    with pytest.raises(ConfigError, match="site is a WSGI application, which needs no_such_server") as error:
        check_programs(settings, ["site"], (tmp_path,), {})
    assert error.value.remedy == "pip install no_such_server"

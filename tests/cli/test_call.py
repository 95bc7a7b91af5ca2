"""`fissile call`, the same in both topologies."""

import json
from pathlib import Path

from commands import Run, fissile


def test_calls_of_every_kind(running: Run):
    folder = running.folder
    result = fissile("call", "Back.pid", "--path", folder)
    assert (result.returncode, result.stderr) == (0, "")
    assert json.loads(result.stdout) == json.loads(fissile("call", "Pages.back_pid", "--path", folder).stdout)

    assert fissile("call", "Back.count", '{"to": 3}', "--path", folder).stdout == "0\n1\n2\n"

    declared = fissile("call", "Back.take", '{"item": "tea"}', "--path", folder)
    assert (declared.returncode, declared.stdout) == (1, "")
    assert "NoStock in Back.take: only 2 of tea are left" in declared.stderr
    assert "  left: 2" in declared.stderr

    undeclared = fissile("call", "Back.take", '{"item": "bug"}', "--path", folder)
    assert undeclared.returncode == 1
    assert "KeyError in Back.take" in undeclared.stderr

    wrong = fissile("call", "Back.take", '{"itm": "tea"}', "--path", folder)
    assert wrong.returncode == 1
    assert "Back.take(item)" in wrong.stderr
    assert "Traceback" not in wrong.stderr

    method = fissile("call", "Back.nothing", "--path", folder)
    assert method.returncode == 1
    assert "Back has no method 'nothing'" in method.stderr

    component = fissile("call", "Front.pid", "--path", folder)
    assert component.returncode == 2
    assert "no component 'Front'" in component.stderr
    assert "Back, Pages" in component.stderr


def test_what_is_no_call(tmp_path: Path):
    for arguments, message in (
        (["Back"], "'Back' names no method"),
        (["Back.pid", "{"], "the arguments are not JSON"),
        (["Back.pid", "[1]"], "the arguments are not a JSON object"),
        (["Back.pid"], "nothing runs in"),
    ):
        result = fissile("call", *arguments, "--path", tmp_path)
        assert (result.returncode, result.stdout) == (2, "")
        assert message in result.stderr
        assert "→" in result.stderr
        assert "Traceback" not in result.stderr

"""`fissile contract diff`: the code in the folder beside what runs."""

import json
from pathlib import Path

from background import background
from commands import fissile


def edit(folder: Path, before: str, after: str) -> None:
    file = folder / "sample.py"
    text = file.read_text()
    assert before in text
    file.write_text(text.replace(before, after))


def test_a_change_that_would_break_a_caller_is_told_with_the_compatible_way(folder: Path):
    with background(folder) as app:
        app.up()
        same = fissile("contract", "diff", "--path", folder)
        assert (same.returncode, same.stdout) == (0, "every running caller works with this code\n")
        edit(folder, "async def slow(self, seconds: float)", "async def slow(self, seconds: float, loops: int = 1)")
        assert fissile("contract", "diff", "--path", folder).returncode == 0
        edit(folder, "seconds: float, loops: int = 1)", "seconds: float, loops: int)")
        broken = fissile("contract", "diff", "--path", folder)
        assert broken.returncode == 1
        assert broken.stdout.splitlines() == [
            "Back.slow, parameter `loops`: callers do not send it",
            "  called by Pages",
            "  its calls over HTTP/JSON have been watched for less than a minute; 24 hours are needed",
            "  → give it a default",
        ]
        (found,) = json.loads(fissile("contract", "diff", "--path", folder, "--json").stdout)
        assert (found["callers"], found["found"]["method"]) == (["Pages"], "Back.slow")
        app.down()


def test_nothing_runs(folder: Path):
    result = fissile("contract", "diff", "--path", folder)
    assert result.returncode == 2
    assert "nothing runs in" in result.stderr

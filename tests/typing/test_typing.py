"""Authors' code is checked as strictly as their type checker can, and mistakes in it are found."""

import json
import re
import subprocess
import sys
from pathlib import Path

AUTHORED = Path(__file__).with_name("authored.py")


def test_the_api_is_typed_as_authors_use_it(tmp_path: Path):
    settings = {
        "strict": [AUTHORED.name],
        "venvPath": str(Path(sys.prefix).parent),
        "venv": Path(sys.prefix).name,
        "pythonVersion": "3.11",
    }
    (tmp_path / AUTHORED.name).write_text(AUTHORED.read_text())
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings))
    told = subprocess.run(
        [sys.executable, "-m", "pyright", "--outputjson", "-p", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=100,
    )
    found = {
        (one["range"]["start"]["line"] + 1, one.get("rule", one["message"]))
        for one in json.loads(told.stdout)["generalDiagnostics"]
    }
    wanted = {
        (number, code[1])
        for number, line in enumerate(AUTHORED.read_text().splitlines(), 1)
        if (code := re.search(r"# error: (\w+)$", line))
    }
    assert wanted
    assert wanted <= found
    # One mistake may be several to the checker.
    assert {line for line, _ in found} == {line for line, _ in wanted}

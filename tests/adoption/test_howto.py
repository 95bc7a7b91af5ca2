"""The how-tos: their files are those of the applications that are tried, and their commands do what is said."""

import re
import shlex
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from driver import APPS, Kind, driven
from table import ALL
from test_adoption import missing

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at processes in /proc")
HOWTO = Path(__file__).parents[2] / "docs" / "howto"
# A page's blocks are these files, or parts of them, in this order.
FILES = {
    "bring-fastapi.md": [("toml", "fastapi_shop/fissile.toml")],
    "bring-flask.md": [("toml", "flask_redis/fissile.toml")],
    "bring-django.md": [("toml", "django_postgres/fissile.toml"), ("sh", "django_postgres/database/run.sh")],
    "bring-node.md": [
        ("toml", "npm_start/fissile.toml"),
        ("toml", "node_index/fissile.toml"),
        ("js", "node_index/index.js"),
    ],
}


@pytest.mark.parametrize("name", FILES)
def test_its_files_are_those_that_are_tried(name: str) -> None:
    blocks = re.findall(r"^```(\w+)\n(.*?)^```$", (HOWTO / name).read_text(), re.MULTILINE | re.DOTALL)
    assert [kind for kind, _ in blocks] == [kind for kind, _ in FILES[name]]
    for (_, text), (kind, file) in zip(blocks, FILES[name], strict=True):
        whole = (APPS / file).read_text()
        assert text in whole if kind == "js" else text == whole, file


def commands(name: str) -> list[list[str]]:
    """What a page says to type."""
    text = re.sub(r"^```.*?^```$", "", (HOWTO / name).read_text(), flags=re.MULTILINE | re.DOTALL)
    return [shlex.split(line) for line in re.findall(r"^    (\S.*)$", text, re.MULTILINE)]


@pytest.mark.parametrize("name", FILES)
def test_its_commands_work_in_their_order(name: str, place: Path) -> None:
    app = ALL[Path(FILES[name][0][1]).parts[0]]
    if absent := missing(app.needs):
        pytest.skip(f"there is no {absent[0]}")
    with driven(app, place) as made:
        ahead = [edit.name for edit in app.edits if edit.kind is Kind.RELEASE]
        for words in commands(name):
            if words == ["fissile", "deploy"]:
                made.edit(ahead.pop(0))
            before = made.ready() if words[1] == "restart" else []
            made.command(words)
            assert words[1] != "restart" or not set(before) & set(made.ready())
        assert not (made.folder / ".fissile" / "endpoints.json").exists()

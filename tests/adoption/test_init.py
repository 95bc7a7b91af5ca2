"""The same applications without their fissile.toml: `fissile init`, and they answer as they did by hand.

Where one needs more than that, a database or a migration, this says so, and what needs neither answers all the same.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from driver import FISSILE, HOST, Kind, Page, _lay, end_all, free_port
from table import ALL
from test_adoption import missing

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at processes in /proc")

# What each is called by `init`, where that is another name than a person's; "": it is not started.
NAMED = {
    "components_make": {"pages": "page", "labels": ""},
    "django_postgres": {"site": "page", "database": ""},
    "fastapi_shop": {"shop": "page"},
    "flask_redis": {"counter": "page", "redis": ""},
    "litestar_sse": {"news": "page"},
    "node_index": {"web": "web"},
    "npm_start": {"web": "web"},
    "websocket_chat": {"chat": "server", "live": "page"},
}
# What has to be said of what is missing, and the pages that need it.
LACKING: Mapping[str, tuple[list[str], set[str]]] = {
    "django_postgres": (["where PostgreSQL runs", "run `python manage.py migrate`"], {"/"}),
    "flask_redis": (["where Redis runs"], set[str]()),
    "npm_start": (["beside those of .env: AUTHOR, GREETING"], set[str]()),
    "components_make": (["whether `make serve` starts something"], set[str]()),
}
# What a person sets who has read that.
SET = {"npm_start": {"GREETING": "Hello"}}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", ALL)
def test_an_application_answers_after_init(name: str, place: Path) -> None:
    app = ALL[name]
    if absent := missing([one for one in app.needs if "postgres" not in one and "redis" not in one]):
        pytest.skip(f"there is no {absent[0]}")
    folder = place / name
    _lay(app, folder)
    (folder / "fissile.toml").unlink()
    done = subprocess.run([*FISSILE, "init"], cwd=folder, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    said, unanswered = LACKING.get(name, ([], set[str]()))
    assert [one for one in said if one not in done.stderr] == []
    ports = {"page": free_port()} | _own_ports(folder / "fissile.toml")
    # As where the environment with the application's packages is activated.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | SET.get(name, {}) | {"PATH": path}
    try:
        words = [*FISSILE, "up", "--json", *(["--port", str(ports["page"])] if "page" in NAMED[name].values() else [])]
        up = subprocess.run(
            words,
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert up.returncode == 0, up.stderr
        assert json.loads(up.stdout)["services"]
        asked = 0
        for edit in app.edits:
            # What a person had set in fissile.toml cannot be known.
            if edit.page is None or (edit.kind is Kind.RELEASE and "fissile.toml" in edit.changes):
                continue
            service = NAMED[name][edit.page.service or app.service]
            if service and edit.page.path not in unanswered:
                asked += 1
                assert edit.texts[0] in _answer(edit.page, ports[service]), f"{edit.name}: {edit.page.path}"
        assert asked
    finally:
        subprocess.run([*FISSILE, "down"], cwd=folder, capture_output=True, timeout=60)
        end_all(folder)


def _own_ports(file: Path) -> dict[str, int]:
    """Free ports in place of those that are proposed, by service: the tests run beside each other."""
    text, found = file.read_text(), dict[str, int]()
    for service, port in re.findall(r"^\[services\.([\w-]+)\]\n(?:[^\[\n].*\n)*?port = (\d+)$", text, re.MULTILINE):
        found[service] = free_port()
        text = text.replace(f"port = {port}", f"port = {found[service]}")
    file.write_text(text)
    return found


def _answer(page: Page, port: int) -> str:
    return page.ask(f"{HOST}:{port}", page.path).decode()

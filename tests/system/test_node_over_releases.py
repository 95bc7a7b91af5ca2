"""A Node application as teams have it, through a release's whole life: no row and no file is lost, and what answers is
always the code of the release that `fissile releases` names."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from endings import FISSILE

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
    pytest.mark.skipif(shutil.which("npm") is None, reason="needs node and npm"),
    pytest.mark.timeout(240),
]

INDEX = """
const fs = require('fs'), http = require('http'), child = require('child_process')
const name = require('named'), own = require('@app/own'), version = require('./lib/version')
http.createServer((request, response) => {
  const [, what, arg] = request.url.split('/')
  if (what === 'row') child.execFileSync('PYTHON', ['rows.py', arg])
  if (what === 'upload') fs.writeFileSync(`uploads/${arg}`, arg)
  if (what === 'state') { fs.writeFileSync('state.tmp', arg); fs.renameSync('state.tmp', 'state.json') }
  const page = fs.readFileSync('index.html', 'utf8').trim()
  response.end(JSON.stringify([version, page, own, name, process.env.npm_lifecycle_event]))
}).listen(process.env.PORT, '127.0.0.1')
"""
ROWS = """
import sqlite3, sys
database = sqlite3.connect("shop.db", timeout=20)
database.execute("pragma journal_mode=wal")
database.execute("create table if not exists rows (n integer)")
database.execute("insert into rows values (?)", (int(sys.argv[1]),))
database.commit()
"""


class Shop:
    """The application, and what has to be in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.rows = 0
        self.uploads: set[str] = set()
        files = {
            "fissile.toml": '[services.web]\ncommand = "npm start"\nready = "/"\n',
            "package.json": '{"scripts": {"start": "node index.js"}, "workspaces": ["packages/*"]}',
            "package-lock.json": "{}",
            ".gitignore": "node_modules\nuploads\n*.db*\nstate.*\n",
            "index.js": INDEX.replace("PYTHON", sys.executable),
            "rows.py": ROWS,
            "packages/own/package.json": '{"name": "@app/own"}',
            "node_modules/named/index.js": "module.exports = require('peer')\n",
            "node_modules/peer/index.js": "module.exports = 'package'\n",
        }
        for path, text in files.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text)
        (root / "node_modules/@app").mkdir()
        (root / "node_modules/@app/own").symlink_to("../../packages/own")
        (root / "uploads").mkdir()
        (root / "lib").mkdir()
        self.edit("1")

    def edit(self, version: str) -> None:
        (self.root / "lib/version.js").write_text(f"module.exports = '{version}'\n")
        (self.root / "index.html").write_text(version)
        (self.root / "packages/own/index.js").write_text(f"module.exports = '{version}'\n")

    def cli(self, *words: str) -> str:
        done = subprocess.run([*FISSILE, *words], cwd=self.root, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def status(self) -> dict[str, Any]:
        return json.loads(self.cli("status", "--json"))

    def pid(self) -> int:
        return int(self.status()["services"][0]["replicas"][0]["pid"])

    def get(self, path: str = "") -> list[str]:
        endpoints = json.loads((self.root / ".fissile/endpoints.json").read_text())["services"]["web"]
        url = next(iter([*endpoints["public"].values(), endpoints["gateway"]]))
        with urllib.request.urlopen(f"http://{url.removeprefix('http://')}/{path}", timeout=20) as answer:
            return json.load(answer)

    def use(self) -> None:
        """Leave something behind in each of the ways."""
        self.rows += 1
        self.uploads.add(f"photo{self.rows}")
        self.get(f"row/{self.rows}")
        self.get(f"upload/photo{self.rows}")
        self.get(f"state/{self.rows}")

    def serves(self, version: str, release: str) -> None:
        assert self.get() == [version, version, version, "package", "start"]
        assert self.status()["release"] == release
        assert release in self.cli("releases")

    def release(self) -> str:
        return str(self.status()["release"])

    def all_is_there(self) -> None:
        limit = time.monotonic() + 1.5  # a second, and what a busy machine adds
        while not self._there() and time.monotonic() < limit:
            time.sleep(0.05)
        assert self._there(), (self.rows, sorted(path.name for path in self.root.iterdir()))

    def _there(self) -> bool:
        if not (self.root / "shop.db").exists() or not (self.root / "state.json").exists():
            return False
        database = sqlite3.connect(self.root / "shop.db", timeout=20)
        rows = [n for (n,) in database.execute("select n from rows order by n")]
        whole = database.execute("pragma integrity_check").fetchone() == ("ok",)
        database.close()
        assert whole
        uploads = {path.name for path in (self.root / "uploads").iterdir()}
        state = (self.root / "state.json").read_text()
        return rows == list(range(1, self.rows + 1)) and uploads == self.uploads and state == str(self.rows)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    made = Shop(tmp_path)
    yield made
    subprocess.run([*FISSILE, "down"], cwd=made.root, capture_output=True)


def end_everything(shop: Shop) -> None:
    """As a power cut does: whatever has the application's folder for its own."""
    for _ in range(3):
        for entry in os.listdir("/proc"):
            if entry.isdigit() and int(entry) != os.getpid():
                try:
                    here = os.readlink(f"/proc/{entry}/cwd") + "/"
                    words = Path(f"/proc/{entry}/cmdline").read_bytes().decode(errors="replace").split("\0")
                    if here.startswith(f"{shop.root}/") or (str(shop.root) in words and "fissile" in words):
                        os.kill(int(entry), signal.SIGKILL)
                except OSError:
                    continue
        time.sleep(0.05)


def test_no_row_and_no_file_is_lost_and_no_other_code_runs_than_the_releases(shop: Shop) -> None:
    shop.cli("up")
    first = shop.release()
    shop.use()
    shop.serves("1", first)
    shop.all_is_there()
    # An edit alone is nowhere, whatever dies.
    shop.edit("2")
    (shop.root / "routes").mkdir()
    (shop.root / "routes/new.js").write_text("1")
    shop.serves("1", first)
    before = shop.pid()
    os.kill(before, signal.SIGKILL)
    while not (replicas := shop.status()["services"][0]["replicas"]) or not any(
        one["pid"] != before and one["state"] == "ready" for one in replicas
    ):
        time.sleep(0.05)
    shop.serves("1", first)
    shop.use()
    # Deployed, it is everywhere.
    assert "code of web: " in shop.cli("deploy", "--plan")
    shop.cli("deploy", "--wait")
    second = shop.release()
    assert second != first
    shop.serves("2", second)
    shop.use()
    shop.all_is_there()
    # Data is no code: what was made since changes no release.
    assert "nothing to do" in shop.cli("deploy", "--wait")
    shop.edit("3")
    shop.cli("rollback", "--wait")
    shop.serves("1", first)
    shop.use()
    shop.all_is_there()
    # After a power cut the release goes on that ran, and not what the folder holds.
    end_everything(shop)
    shop.all_is_there()
    shop.cli("up")
    shop.serves("1", first)
    shop.use()
    shop.all_is_there()
    shop.cli("down")
    shop.all_is_there()
    shop.cli("up")
    shop.serves("3", shop.release())
    shop.use()
    shop.all_is_there()
    assert not list(shop.root.glob("*.before-*"))
    shop.cli("down")
    shop.all_is_there()

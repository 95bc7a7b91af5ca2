"""Who gets which release at the public doors, and what stays when the code goes."""

import json
import shutil
import sqlite3
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from background import background, wait_until
from chained import Chain, asked, chain, traffic
from commands import Run, fissile


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Chain]:
    with chain(tmp_path / "app") as found:
        yield found


def test_a_cookie_keeps_a_browser_in_its_release(app: Chain):
    app.edit("back", VERSION=2)
    app.order("deploy", "--canary", "50%", "--watch", "100s", "--sticky", "cookie")
    wait_until(lambda: asked(app.page)[1], "the new release gets requests")
    seen: set[int] = set()
    for _ in range(20):
        version, cookie = asked(app.page)
        assert cookie.startswith("fissile-release=")
        seen.add(version)
        for _ in range(5):
            assert asked(app.page, cookie=f"a=b; {cookie}") == (version, "")
    assert seen == {1, 2}
    # What is no live release is no choice.
    assert asked(app.page, cookie="fissile-release=nonsense")[1]


def test_those_who_were_there_before_a_canary_meet_it(app: Chain):
    """Forty people ask all the time, with what cookies they get: while the new release starts, they get none."""
    cookies = [""] * 40
    stop = threading.Event()

    def client(number: int) -> None:
        while not stop.is_set():
            cookies[number] = asked(app.page, cookie=cookies[number])[1] or cookies[number]
            time.sleep(0.1)

    clients = [threading.Thread(target=client, args=[number]) for number in range(len(cookies))]
    for one in clients:
        one.start()
    try:
        for share, again in (("30%", True), ("50%", False)):
            app.edit("back", VERSION=2 + again)
            app.order("deploy", "--canary", share, "--watch", "100s", "--sticky", "cookie")
            later = app.status()["rollout"]["later"]
            wait_until(lambda: any(cookie.endswith(later) for cookie in cookies), "somebody meets the new release")  # noqa: B023
            number = app.status()["rollout"]["number"]
            stamp = f"fissile-release={number}."
            wait_until(lambda: all(cookie.startswith(stamp) for cookie in cookies), "all have a stamp of this rollout")  # noqa: B023
            # 0.3 * 40 = 12: that none of 40 or more than 28 are drawn is less likely than one in a million.
            assert 1 <= sum(cookie.endswith(later) for cookie in cookies) <= 38
            app.order("abort")
            wait_until(lambda: app.status()["rollout"] is None, "it is over")
    finally:
        stop.set()
        for one in clients:
            one.join()


def test_a_header_keeps_a_user_in_his_release(app: Chain):
    app.edit("back", VERSION=2)
    app.order("deploy", "--canary", "50%", "--watch", "100s", "--sticky", "X-User")
    by_user = {user: {asked(app.page, x_user=user)[0] for _ in range(5)} for user in map(str, range(20))}
    assert all(len(versions) == 1 for versions in by_user.values())
    assert {version for versions in by_user.values() for version in versions} == {1, 2}


def test_a_request_may_ask_for_a_live_release(app: Chain):
    app.edit("back", VERSION=2)
    app.order("deploy", "--canary", "1%", "--watch", "100s")
    rollout = app.status()["rollout"]
    assert {asked(app.page, fissile_release=rollout["later"])[0] for _ in range(10)} == {2}
    assert {asked(app.page, fissile_release=rollout["earlier"])[0] for _ in range(10)} == {1}


ASGI = """
VERSION = 1


async def app(scope, receive, send):
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"9")]})
    await send({"type": "http.response.body", "body": b"[1, 1, %d]" % VERSION})
"""


@contextmanager
def guest(folder: Path) -> Iterator[Chain]:
    folder.mkdir()
    (folder / "fissile.toml").write_text('[services.site]\nasgi = "site_app:app"\n')
    (folder / "site_app.py").write_text(ASGI)
    with background(folder, Chain) as found:
        assert isinstance(found, Chain)
        found.start()
        yield found


def test_an_application_that_knows_nothing_of_us(tmp_path: Path):
    with guest(tmp_path / "site") as app:
        with traffic(app) as seen:
            (app.folder / "site_app.py").write_text(ASGI.replace("VERSION = 1", "VERSION = 2"))
            app.deploy()
            app.order("rollback", "--wait")
        assert not seen.failures
        assert set(seen.versions) == {(1, 1, 1), (1, 1, 2)}


def test_a_compatible_change_of_what_is_replaced_in_place_loses_no_request(app: Chain):
    (app.folder / "fissile.toml").write_text('app = "chain:app"\n\n[services.back]\noverlap = false\n')
    app.deploy()
    back = app.folder / "chain" / "back.py"
    text = back.read_text()
    with traffic(app, paths=("/", "/", "/slow")) as seen:
        app.edit("back", VERSION=2)
        back.write_text(back.read_text().replace("def version(self)", "def version(self, extra: int = 0)"))
        assert "back cannot run twice at once" in app.deploy()
        time.sleep(0.2)
    assert not seen.failures
    # Requests of the earlier release met the later Back, too.
    assert {versions[-1] for versions in seen.versions} == {1, 2}
    assert app.status()["rollout"] is None
    back.write_text(text.replace("def version(self)", "def version(self, extra: int)"))
    said = app.order("deploy", code=1)
    assert "Back.version, parameter `extra`: it is required now" in said
    assert "called by Middle, Front: keep it optional" in said
    assert "never meets" not in said
    assert "back cannot run twice at once, so requests of both releases meet it" in said


PROGRAM = """
import http.server, os

class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"VERSION")
    def log_message(self, *_): pass

http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Answer).serve_forever()
"""


def test_what_cannot_be_there_twice_is_replaced_in_place_and_back(tmp_path: Path):
    folder = tmp_path / "app"
    folder.mkdir()
    code = folder / "code"
    code.mkdir()
    (folder / "fissile.toml").write_text(
        '[services.program]\ncommand = "python3 code/program.py"\noverlap = false\nready = "/"\nstart_seconds = 3.0\n'
    )
    (code / "program.py").write_text(PROGRAM.replace("VERSION", "1"))
    with background(folder) as app:
        assert fissile("up", folder, "--port", "0", "--json").returncode == 0

        def said() -> str:
            endpoints = json.loads((folder / ".fissile" / "endpoints.json").read_text())
            address = endpoints["services"]["program"]["public"]["program"]
            with urllib.request.urlopen(f"http://{address}/", timeout=5) as answer:
                return answer.read().decode()

        assert said() == "1"
        (code / "program.py").write_text(PROGRAM.replace("VERSION", "2"))
        plan = fissile("deploy", folder, "--plan")
        assert "code/program.py changed" in plan.stdout
        assert "cannot run twice at once" in plan.stderr
        assert fissile("deploy", folder, "--wait").returncode == 0
        assert said() == "2"
        (code / "program.py").write_text("raise SystemExit(7)")
        broken = fissile("deploy", folder, "--wait")
        assert broken.returncode == 1, broken
        assert "program does not come up" in broken.stderr
        assert said() == "2"
        app.status()


def test_what_code_makes_beside_itself_outlives_its_release(tmp_path: Path):
    folder = tmp_path / "site"
    keeping = ASGI.replace(
        "VERSION = 1",
        """
import sqlite3
from pathlib import Path

VERSION = 1
database = Path(__file__).parent / "visits.sqlite3"
notes = Path(__file__).parent / "notes"


def _note(what):
    notes.mkdir(exist_ok=True)
    (notes / what).touch()
    with sqlite3.connect(database) as connection:
        connection.execute("create table if not exists visit (number)")
        connection.execute("insert into visit values (1)")
    connection.close()
""",
    ).replace('== "http"\n', '== "http"\n    _note(str(VERSION))\n')
    with guest(folder) as app:
        (folder / "site_app.py").write_text(keeping)
        app.deploy()
        for version in (2, 3):
            assert asked(app.page)[0] == version - 1
            (folder / "site_app.py").write_text(keeping.replace("VERSION = 1", f"VERSION = {version}"))
            app.deploy()
        assert asked(app.page)[0] == 3
        app.order("rollback", "--wait")
        assert asked(app.page)[0] == 2
        with sqlite3.connect(folder / "visits.sqlite3") as connection:
            assert connection.execute("select count(*) from visit").fetchone() == (4,)
        assert sorted(file.name for file in (folder / "notes").iterdir()) == ["1", "2", "3"]


def test_a_deploy_of_what_runs_in_the_foreground(tmp_path: Path):
    folder = tmp_path / "app"
    shutil.copytree(Path(__file__).parent / "sample", folder, ignore=shutil.ignore_patterns("__pycache__"))
    with Run(folder, "--topology", "microservices"):
        page = next(
            iter(
                json.loads((folder / ".fissile" / "endpoints.json").read_text())["services"]["front"]["public"].values()
            )
        )
        file = folder / "chain" / "back.py"
        file.write_text(file.read_text().replace("VERSION = 1", "VERSION = 2"))
        done = fissile("deploy", folder, "--wait")
        assert done.returncode == 0, done
        assert asked(page)[0] == 2


def test_a_full_disk_refuses_a_deploy_and_touches_nothing(tmp_path: Path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("a small file system cannot be mounted here: that needs root")
    try:
        with chain(disk / "app") as app:
            before = app.all_pids()
            app.edit("back", VERSION=2)
            ballast = disk / "ballast"
            with ballast.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
                while True:
                    file.write(b"x" * 512)
            with traffic(app) as seen:
                said = app.order("deploy", code=1)
            assert "cannot be copied" in said
            assert "make room" in said
            assert app.all_pids() == before
            assert not seen.failures
            ballast.unlink()
            app.deploy()
            assert asked(app.page)[0] == 2
            app.down()
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_more_replicas_by_hand_stay_more_after_a_deploy(app: Chain):
    assert fissile("scale", "back", "3", "--path", app.folder).returncode == 0
    wait_until(lambda: len(app.all_pids()["back"]) == 3, "three replicas")
    app.edit("back", VERSION=2)
    app.deploy()
    assert len(app.all_pids()["back"]) == 3
    (service,) = [one for one in app.status()["services"] if one["name"] == "back"]
    assert service["scale"] == {"wanted": 3, "min": 3, "max": 3, "zero_by": ""}
    # A restart and a scaling while two builds are there mean both.
    app.edit("back", VERSION=3)
    app.order("deploy", "--canary", "50%", "--watch", "100s")
    assert fissile("restart", "back", "--path", app.folder).returncode == 0
    time.sleep(0.2)
    with traffic(app) as seen:
        app.order("promote")
        wait_until(lambda: app.status()["rollout"] is None, "it is over")
    assert not seen.failures


def test_what_is_replaced_in_place_goes_back_to_its_own_settings(tmp_path: Path):
    folder = tmp_path / "app"
    (folder / "code").mkdir(parents=True)
    text = '[services.program]\ncommand = "python3 code/NAME.py"\noverlap = false\nready = "/"\nstart_seconds = 3.0\n'
    (folder / "fissile.toml").write_text(text.replace("NAME", "good"))
    (folder / "code" / "good.py").write_text(PROGRAM.replace("VERSION", "[1]"))
    (folder / "code" / "bad.py").write_text("raise SystemExit(7)")
    with background(folder, Chain) as app:
        assert isinstance(app, Chain)
        assert fissile("up", folder, "--port", "0", "--json").returncode == 0
        (folder / "fissile.toml").write_text(text.replace("NAME", "bad"))
        said = app.deploy(code=1)
        assert "program does not come up" in said
        assert app.status()["rollout"] is None
        endpoints = json.loads((folder / ".fissile" / "endpoints.json").read_text())
        (address,) = endpoints["services"]["program"]["public"].values()
        assert asked(f"http://{address}/") == (1, "")


EXTRA = """
from fissile import component


@component
class Extra:
    async def found(self) -> int:
        return 5

    def http(self):
        async def app(scope, receive, send):
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"3")]})
            await send({"type": "http.response.body", "body": b"[5]"})

        return app
"""


def test_what_is_replaced_in_place_serves_what_is_new_in_it(tmp_path: Path):
    with chain(tmp_path / "app", "monolith") as app:
        app.down()
        (app.folder / "fissile.toml").write_text('app = "chain:app"\n\n[services.app]\noverlap = false\n')
        app.start("monolith")
        assert asked(app.page)[0] == 1
        (app.folder / "chain" / "extra.py").write_text(EXTRA)
        file = app.folder / "chain" / "__init__.py"
        text = file.read_text().replace("Back)", "Back, Extra)")
        file.write_text(text.replace("from fissile import", "from chain.extra import Extra\nfrom fissile import"))
        app.deploy()
        service = json.loads((app.folder / ".fissile" / "endpoints.json").read_text())["services"]["app"]
        assert "Extra" in service["components"]
        assert asked(service["public"]["Extra"])[0] == 5
        assert fissile("call", "Extra.found", "--path", app.folder).stdout.strip() == "5"
        app.order("rollback", "--wait")
        service = json.loads((app.folder / ".fissile" / "endpoints.json").read_text())["services"]["app"]
        assert "Extra" not in {*service["components"], *service["public"]}
        assert asked(app.page)[0] == 1

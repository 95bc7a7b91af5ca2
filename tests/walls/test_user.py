"""What docs/reference/isolation.md says of a service that runs as another user, tried from inside of it."""

import os
import pwd
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from broken import Broken, broken_into, sample, wardens

from fissile.errors import ConfigError
from fissile.machine.users import READ, SEARCH, WRITE, may, out_of_reach
from fissile.machine.walls import User
from fissile.settings.load import load
from fissile.supervisor.supervisor import Supervisor

NAME = "nobody"
CONFIG = f"\n[services.back]\nuser = '{NAME}'\n[services.back.limits]\ndisk = ['data']\n"
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.fixture(params=["forked", "spawned"])
async def broken(request: pytest.FixtureRequest, open_path: Path) -> AsyncIterator[Broken]:
    more = CONFIG if request.param == "forked" else CONFIG.replace("user", "spawn = true\nuser")
    folder = sample(open_path, more)
    os.chown(folder / "data", pwd.getpwnam(NAME).pw_uid, -1)
    async with broken_into(folder) as found:
        yield found


@as_root
async def test_it_is_that_user_with_nothing_of_roots(broken: Broken):
    user = pwd.getpwnam(NAME)
    assert await broken("[*os.getresuid(), *os.getresgid()]") == str([user.pw_uid] * 3 + [user.pw_gid] * 3)
    assert await broken("os.getgroups()") == str([user.pw_gid])
    assert await broken("[os.environ[name] for name in ('HOME', 'USER', 'LOGNAME')]") == str([user.pw_dir, NAME, NAME])
    lines = await broken(
        "[line for line in open('/proc/self/status') if line.startswith(('CapEff', 'CapPrm', 'CapBnd'))]"
    )
    assert lines.count("0000000000000000") == 3
    assert (
        await broken("[line for line in open('/proc/self/status') if 'NoNewPrivs' in line]") == r"['NoNewPrivs:\t1\n']"
    )
    # Its warden has one, by which it looks at the calls of whatever the service starts.
    (warden,) = wardens()
    status = Path(f"/proc/{warden}/status").read_text().splitlines()
    held = {name: value.split() for name, _, value in (line.partition(":") for line in status)}
    assert held["Uid"] == [str(user.pw_uid)] * 4
    assert held["CapEff"] == held["CapPrm"] == held["CapBnd"] == [f"{1 << 19:016x}"]
    assert await broken("refused(os.setuid, 0)") == "EPERM"
    assert await broken("subprocess.check_output(['id', '-u']).decode()") == f"{user.pw_uid}\n"


@as_root
async def test_it_serves_and_is_called_like_any_other(broken: Broken):
    (own,) = broken.app.pids("back")
    assert await broken.app.call("Pages.back_pid") == own
    assert broken.status().isolation == "user"
    assert f"user:{NAME}" in broken.status().walls
    await broken.app.supervisor.operations.restart("back")
    (later,) = broken.app.pids("back")
    assert await broken.app.call("Pages.back_pid") == later != own


@as_root
async def test_it_writes_and_alters_in_its_own_folders_alone(broken: Broken):
    assert await broken("(ROOT / 'data/note').write_text('x')") == "1"
    assert await broken("os.chmod(ROOT / 'data/note', 0o640)\noct(os.stat(ROOT / 'data/note').st_mode)") == "0o100640"
    assert await broken("tempfile.NamedTemporaryFile().name.startswith(str(STATE / 'tmp'))") == "True"
    for elsewhere in ("ROOT / 'note'", "'/tmp/walls-note'", "STATE / 'journal.db'"):
        assert await broken(f"refused(Path({elsewhere}).write_text, 'x')") == "EACCES"
    assert await broken("refused(os.chmod, ROOT / 'beside/file', 0o777)") == "EPERM"


@as_root
async def test_what_is_others_is_unreadable(broken: Broken):
    assert await broken("refused(os.listdir, STATE)") == "EACCES"
    secret = broken.root / "beside/secret"
    secret.write_text("root's")
    secret.chmod(0o600)
    assert await broken("refused(open, ROOT / 'beside/secret')") == "EACCES"
    assert await broken("refused(open, '/etc/shadow')") == "EACCES"
    for name in [path.name for path in (broken.root / ".fissile").glob("zygote-*.sock")]:
        assert await broken(f"refused(socket.socket(socket.AF_UNIX).connect, str(STATE / '{name}'))") == "EACCES"
    assert "class Back" in await broken("Path(sys.modules['sample'].__file__).read_text()")


@as_root
async def test_programs_and_applications_run_as_users_too(open_path: Path):
    more = """
[services.tool]
command = "python3 tool.py"
user = "nobody"
ready = "/"
[services.guest]
asgi = "guest:app"
user = "nobody"
"""
    folder = sample(open_path, more)
    (folder / "guest.py").write_text(GUEST)
    (folder / "tool.py").write_text(TOOL)
    async with broken_into(folder) as broken:
        services = broken.app.endpoints.services
        for address in (f"http://{services['tool'].public['tool']}/", services["guest"].public["guest"]):
            found = (await broken.app.client.get(address)).json()
            assert found == {
                "uid": pwd.getpwnam(NAME).pw_uid,
                "home": pwd.getpwnam(NAME).pw_dir,
                "read": 13,
                "write": 13,
            }


@as_root
async def test_the_way_through_the_state_folder_is_as_narrow_as_may_be(broken: Broken):
    """Others pass, and see nothing but the copy of the code and the sockets of calls."""
    state = broken.root / ".fissile"
    modes = {str(path.relative_to(state)): path.lstat() for path in state.rglob("*") if not path.is_symlink()}
    opened = {name for name, found in modes.items() if found.st_mode & 0o077 and found.st_uid == os.getuid()}
    copies = {name for name in opened if name.startswith("code/")}
    assert opened - copies - {"code", "tmp"} == {name for name in opened if stat.S_ISSOCK(modes[name].st_mode)}
    assert not [name for name in opened if name.startswith(("api", "zygote-", "spare/zygote-", "spare/api"))]
    assert {oct(modes[name].st_mode & 0o777) for name in ("code", "tmp")} == {"0o711"}
    assert not [name for name in copies if name.endswith(("fissile.toml", "files.json"))]
    assert state.stat().st_mode & 0o777 == 0o711


@as_root
@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("\n[services.back]\nuser = 'nobody-of-that-name'\n", "this system has no such user"),
        ("\n[services.back]\nuser = 'root'\n", "is root, which no wall holds"),
        (CONFIG, f"user = {NAME!r}: this user cannot write to .*: `chown -R {NAME} "),
    ],
)
async def test_a_user_that_does_not_fit_is_an_error_before_anything_starts(open_path: Path, more: str, words: str):
    supervisor = Supervisor(load(sample(open_path, more)), "microservices", port=0)
    with pytest.raises(ConfigError, match=words):
        await supervisor.start()


async def test_only_root_becomes_another_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    supervisor = Supervisor(load(sample(tmp_path, CONFIG)), "microservices", port=0)
    with pytest.raises(ConfigError, match="only root can run a service as another user"):
        await supervisor.start()


@pytest.mark.parametrize(
    ("owner", "group", "mode", "need", "found"),
    [
        ("own", "other", 0o700, READ | SEARCH, True),
        # The owner's rights are his, even where others have more.
        ("own", "other", 0o077, READ, False),
        ("other", "own", 0o070, WRITE, True),
        ("other", "own", 0o707, READ, False),
        ("other", "other", 0o701, SEARCH, True),
        ("other", "other", 0o771, READ, False),
    ],
)
def test_what_a_user_may(tmp_path: Path, owner: str, group: str, mode: int, need: int, found: bool):
    tmp_path.chmod(mode)
    here = tmp_path.stat()
    uid, gid = (here.st_uid if owner == "own" else -2), (here.st_gid if group == "own" else -2)
    user = User("somebody", uid, gid, (gid,), "/")
    assert may(user, tmp_path, need) == found
    if not found:
        assert out_of_reach(user, tmp_path, need).startswith("this user cannot ")
    tmp_path.chmod(0o700)


LOOK = """
def look():
    def refused(path, mode):
        try:
            open(path, mode)
        except OSError as error:
            return error.errno
    root = tempfile.gettempdir().partition("/.fissile/")[0]
    found = {"uid": os.getuid(), "home": os.environ["HOME"], "read": refused(root + "/.fissile/journal.db", "rb")}
    return json.dumps({**found, "write": refused(root + "/note", "w")}).encode()
"""
GUEST = f"""
import json, os, tempfile
{LOOK}
async def app(scope, receive, send):
    if scope["type"] == "http":
        await send({{"type": "http.response.start", "status": 200, "headers": []}})
        await send({{"type": "http.response.body", "body": look()}})
"""
TOOL = f"""
import json, os, tempfile
from http.server import BaseHTTPRequestHandler, HTTPServer
{LOOK}
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(look())
HTTPServer((os.environ["HOST"], int(os.environ["PORT"])), Handler).serve_forever()
"""

"""The folder .fissile: private, locked, cleaned, removed."""

import os
import socket
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fissile.api.discovery import read_endpoints
from fissile.errors import ConfigError
from fissile.machine.sockets import listen_public, listen_tcp, listen_unix, remove_unix, restore, url
from fissile.rpc.paths import PATH_BYTES_MAX, addressed
from fissile.supervisor.endpoints import Endpoints, ServiceEndpoints
from fissile.supervisor.state_folder import StateFolder

ENDPOINTS = Endpoints(os.getpid(), "a", "pair", "t", {"s": ServiceEndpoints("http://x", {}, ("C",), (1,))})


def test_it_is_private_and_goes_without_a_trace(tmp_path: Path):
    state = StateFolder(tmp_path)
    state.open()
    state.publish(ENDPOINTS)
    assert stat.S_IMODE(state.path.stat().st_mode) == 0o700
    assert stat.S_IMODE((state.path / "endpoints.json").stat().st_mode) == 0o600
    assert read_endpoints(tmp_path) == ENDPOINTS
    state.close()
    assert not state.path.exists()
    state.close()


def test_what_others_put_there_is_kept(tmp_path: Path):
    state = StateFolder(tmp_path)
    state.open()
    (state.path / "notes.txt").write_text("mine")
    state.close()
    assert {file.name for file in state.path.iterdir()} == {".gitignore", "notes.txt"}


def test_two_at_a_time_are_refused_with_the_pid_of_the_first(tmp_path: Path):
    first, second = StateFolder(tmp_path), StateFolder(tmp_path)
    first.open()
    with pytest.raises(ConfigError, match=rf"runs already \(pid {os.getpid()}\)"):
        second.open()
    second.close()  # has nothing to remove
    assert (first.path / "lock").exists()
    first.close()
    second.open()
    second.close()


def test_what_a_killed_supervisor_left_is_cleaned(tmp_path: Path):
    (tmp_path / ".fissile").mkdir(mode=0o755)
    (tmp_path / ".fissile" / "endpoints.json").write_text("{}")
    socket.socket(socket.AF_UNIX).bind(str(tmp_path / ".fissile" / "cart.0.sock"))
    state = StateFolder(tmp_path)
    state.open()
    state.clean()
    assert {file.name for file in state.path.iterdir()} == {".gitignore", "lock"}
    assert stat.S_IMODE(state.path.stat().st_mode) == 0o700
    state.close()


def test_a_folder_too_deep_for_an_address_has_its_sockets_all_the_same(tmp_path: Path):
    deep = tmp_path.joinpath(*["a-rather-long-name"] * 8)
    deep.mkdir(parents=True)
    state = StateFolder(deep)
    state.open()
    path = state.socket_path("s" * 40 + ".999")
    assert path.startswith(f"{deep}/.fissile/")
    assert len(path.encode()) > PATH_BYTES_MAX
    before = set(os.listdir("/proc/self/fd"))
    with listen_unix(path) as listener, socket.socket(socket.AF_UNIX) as caller:
        with addressed(path) as short:
            caller.connect(short)
        assert listener.accept()
    assert set(os.listdir("/proc/self/fd")) == before  # it took a descriptor of the folder, and gave it back
    state.close()
    assert not state.path.exists()


def test_a_socket_that_somebody_removed_is_put_back_and_is_the_same(tmp_path: Path):
    state = StateFolder(tmp_path)
    state.open()
    path = state.socket_path("cart.0")
    with listen_unix(path) as listener, socket.socket(socket.AF_UNIX) as caller:
        os.unlink(path)
        assert restore(str(state.sockets)) == [path]
        assert restore(str(state.sockets)) == []
        caller.connect(path)
        assert listener.accept()
    remove_unix(path)
    assert restore(str(state.sockets)) == []  # what was removed in order stays away
    state.close()


def modes(folder: Path) -> dict[str, str]:
    """All that is in a folder, with its rights."""
    return {
        path.relative_to(folder).as_posix(): f"{stat.S_IMODE(path.lstat().st_mode):o}"
        for path in folder.rglob("*")
        if not path.is_symlink()
    }


@pytest.fixture
def generous() -> Iterator[None]:
    """A umask that gives everybody all rights."""
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("generous")
def test_what_is_left_open_is_closed(tmp_path: Path):
    folder = tmp_path / ".fissile"
    (folder / "logs").mkdir(parents=True)
    (folder / "code" / "1234").mkdir(parents=True)
    (folder / "logs" / "cart.log").write_text("")
    (folder / "journal.db").write_text("")
    (folder / "current").symlink_to(tmp_path)
    before = tmp_path.stat().st_mode
    state = StateFolder(tmp_path)
    state.open()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    found = modes(folder)
    assert found.pop("code/1234") == "777"  # nobody comes to it
    assert found.pop(".gitignore") == "600"
    assert found == {"logs": "700", "logs/cart.log": "600", "journal.db": "600", "lock": "600", "code": "700"}
    assert tmp_path.stat().st_mode == before
    state.let_go()


@pytest.mark.skipif(os.getuid() != 0, reason="another user is needed")
def test_another_user_reaches_what_its_service_needs_and_nothing_else(open_path: Path):
    state = StateFolder(open_path)
    state.open()
    state.publish(ENDPOINTS)
    home = state.path / "code" / "1234" / "app"
    (home / "pages").mkdir(mode=0o700, parents=True)
    for name in ("shop.py", "fissile.toml", "pages/index.html"):
        (home / name).write_text(name)
        (home / name).chmod(0o600)
    (home / "run.sh").touch(0o700)
    early = listen_unix(state.socket_path("cart.0"))
    state.share()
    state.share_copy(home, but=("fissile.toml",))
    late = listen_unix(state.socket_path("cart.1"), state.socket_mode)
    own = [listen_unix(state.socket_path(name)) for name in ("api", "zygote-1")]
    state.share()

    def tried(what: Callable[[], object]) -> bool:
        try:
            what()
        except PermissionError:
            return False
        return True

    def connect(name: str) -> None:
        with socket.socket(socket.AF_UNIX) as caller:
            caller.connect(state.socket_path(name))

    wanted = {
        "cart.0": lambda: connect("cart.0"),
        "cart.1": lambda: connect("cart.1"),
        "shop.py": (home / "shop.py").read_text,
        "index.html": (home / "pages" / "index.html").read_text,
        "pages": lambda: os.listdir(home / "pages"),
        "run.sh": lambda: os.access(home / "run.sh", os.X_OK) or _refuse(),
    }
    kept = {
        "api": lambda: connect("api"),
        "zygote": lambda: connect("zygote-1"),
        "spare": lambda: os.listdir(state.path / "spare"),
        "endpoints": (state.path / "endpoints.json").read_text,
        "lock": (state.path / "lock").read_text,
        "configuration": (home / "fissile.toml").read_text,
        "list": lambda: os.listdir(state.path),
        "list of releases": lambda: os.listdir(state.path / "code"),
    }
    pid = os.fork()
    if pid == 0:
        os.setgroups([])
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)
        wrong = [name for name, what in wanted.items() if not tried(what)]
        wrong += [name for name, what in kept.items() if tried(what)]
        print(wrong, flush=True)
        os._exit(len(wrong))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    for sock in (early, late, *own):
        sock.close()
    state.close()


def _refuse() -> None:
    raise PermissionError


def test_a_place_that_cannot_be_used_is_one_clear_error(tmp_path: Path):
    (tmp_path / ".fissile").write_text("in the way")
    with pytest.raises(ConfigError, match=r"\.fissile cannot be used"):
        StateFolder(tmp_path).open()


@pytest.mark.parametrize("content", [None, b"", b"nonsense", b'{"pid": 1}'])
def test_nothing_runs(tmp_path: Path, content: bytes | None):
    if content is not None:
        (tmp_path / ".fissile").mkdir()
        (tmp_path / ".fissile" / "endpoints.json").write_bytes(content)
    with pytest.raises(ConfigError):
        read_endpoints(tmp_path)


def test_endpoints_of_a_dead_process_are_nothing_that_runs(tmp_path: Path):
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    state = StateFolder(tmp_path)
    state.open()
    state.publish(Endpoints(pid, "a", "pair", "t", {}))
    with pytest.raises(ConfigError, match="nothing runs"):
        read_endpoints(tmp_path)
    state.close()


def test_a_port_that_is_taken_says_for_what_and_what_to_change():
    first = listen_tcp(0, "Frontend", "--port")
    port = first.getsockname()[1]
    with pytest.raises(ConfigError, match=rf"port {port}, wanted for Cart, is taken(.|\n)*choose another with --port"):
        listen_public(port, "Cart")
    with pytest.raises(ConfigError, match="cannot be used"):
        listen_tcp(70_000, "Cart", "--port")
    assert url(first) == f"http://127.0.0.1:{port}"
    first.close()


def test_without_a_wish_the_public_port_is_any_free_one_if_the_usual_is_taken():
    first, second = listen_public(None, "Frontend"), listen_public(None, "Frontend")
    assert first.getsockname()[1] != second.getsockname()[1]
    first.close()
    second.close()


def test_git_does_not_see_the_state_folder(tmp_path: Path):
    git = ["git", "-C", str(tmp_path)]
    subprocess.run([*git, "init", "-q"], check=True)
    state = StateFolder(tmp_path)
    state.open()
    assert subprocess.check_output([*git, "status", "--porcelain"]) == b""
    state.close()


def test_who_lets_go_leaves_no_lock(tmp_path: Path):
    state = StateFolder(tmp_path)
    state.open()
    state.let_go()
    assert not (tmp_path / ".fissile" / "lock").exists()
    state.open()
    with pytest.raises(ConfigError, match="runs already"):
        StateFolder(tmp_path).open()
    state.close()

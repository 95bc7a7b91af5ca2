"""Who stands at a local door."""

import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fissile.machine import process_marks
from fissile.machine.peers import REPLICAS_MAY_NOT, PeerPolicy, ThrottledLog, lineage
from fissile.machine.procfs import Mark
from fissile.machine.sockets import listen_unix

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the kernel tells who connects")
OURS, OTHERS = Mark("0123456789", 3), Mark("9876543210", 3)


@pytest.fixture
def door(open_path: Path) -> socket.socket:
    """A listening socket."""
    return listen_unix(str(open_path / "s.sock"))


def come(door: socket.socket, before: Callable[[], object] = lambda: None, *, stay: bool = True) -> socket.socket:
    """The connection of another process, which stays for as long as the connection does, or ends at once."""
    pid = os.fork()
    if pid == 0:
        before()
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(door.getsockname())
            if stay:
                sock.recv(1)
            os._exit(0)
    if not stay:
        os.waitpid(pid, 0)
    door.setblocking(True)
    return door.accept()[0]


def judged(door: socket.socket, peer_policy: PeerPolicy, before: Callable[[], object] = lambda: None) -> str:
    with come(door, before) as connection:
        found = peer_policy.refusal(connection)
    os.wait()
    return found


def test_a_stranger_of_the_same_user_is_let_in(door: socket.socket):
    assert judged(door, PeerPolicy(OURS.application, set[int])) == ""


def test_a_descendant_of_a_member_is_not(door: socket.socket):
    assert judged(door, PeerPolicy(OURS.application, lambda: {os.getpid()})) == REPLICAS_MAY_NOT


def test_the_process_itself_is(door: socket.socket):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(door.getsockname())
        door.setblocking(True)
        with door.accept()[0] as connection:
            assert PeerPolicy(OURS.application, lambda: {os.getpid()}).refusal(connection) == ""


def test_a_mark_tells_of_whom_nothing_else_does(door: socket.socket):
    peer_policy = PeerPolicy(OURS.application, set[int])
    assert judged(door, peer_policy, lambda: process_marks.put_on(0, OURS)) == REPLICAS_MAY_NOT
    assert judged(door, peer_policy, lambda: process_marks.put_on(0, OTHERS)) == ""


def test_a_confined_replica_of_another_application_is_refused(door: socket.socket):
    import ctypes

    def confined() -> None:
        process_marks.put_on(0, OTHERS)
        ctypes.CDLL(None).prctl(38, 1, 0, 0, 0)

    assert "another application" in judged(door, PeerPolicy(OURS.application, set[int]), confined)


def test_who_has_ended_meanwhile_may_have_been_anybody(door: socket.socket):
    with come(door, stay=False) as connection:
        assert "ended before it could be seen" in PeerPolicy(OURS.application, set[int]).refusal(connection)


@pytest.mark.skipif(os.getuid() != 0, reason="another user is needed")
def test_another_user_is_refused_whatever_the_path_allows(door: socket.socket, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1234)
    assert judged(door, PeerPolicy(OURS.application, set[int])) == ""  # root may
    os.chmod(door.getsockname(), 0o777)
    found = judged(door, PeerPolicy(OURS.application, set[int]), lambda: os.setresuid(65534, 65534, 65534))
    assert found == "user 65534 may not order what belongs to user 1234"


def test_a_line_goes_up_to_the_first_process():
    line = lineage(os.getpid())
    assert line[:2] == [os.getpid(), os.getppid()]
    assert len(set(line)) == len(line)
    assert lineage(1 << 22) == []


def test_the_log_is_not_filled_by_who_comes_again_and_again():
    said: list[str] = []
    complaints = ThrottledLog(said.append)
    for now in (1.0, 2.0, 3.0, 11.0):
        complaints.write("no", now)
    assert said == ["no", "no (2 more like this were not written)"]

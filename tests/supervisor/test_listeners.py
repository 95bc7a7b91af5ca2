"""Which sockets are closed, and what becomes of those that somebody else has left."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from fissile.machine.sockets import listen_handover, listen_unix
from fissile.machine.zygote.client import ZygoteClient
from fissile.machine.zygote.protocol import Load
from fissile.orchestrator.desired import Desired, LiveRelease
from fissile.releases.store import ReleaseStore
from fissile.settings.schema import Settings
from fissile.supervisor.listeners import Listeners
from fissile.supervisor.loader import ReleaseLoader
from fissile.supervisor.state import SupervisorState
from fissile.supervisor.state_folder import StateFolder


@pytest.fixture
def state(tmp_path: Path) -> Iterator[SupervisorState]:
    state = StateFolder(tmp_path)
    state.open()
    found = SupervisorState(Settings(app="app:app", root=str(tmp_path)), "microservices", state, detached=True)
    found.app.replace_desired(Desired(current=LiveRelease("r", {"cart": "cart@1"})))
    yield found
    state.close()


async def test_slots_of_sets_that_are_in_no_live_release_are_closed(state: SupervisorState):
    zygote = ZygoteClient(Load(Settings(app="app:app", root="/nowhere"), ""), lambda _: (0, 0))
    doors = Listeners(state, lambda: [zygote])
    names = {"slot cart@1.0": "cart@1.0", "slot cart@0.0": "cart@0.0", "slot cart@0.12": "cart@0.12"}
    paths = {label: state.folder.socket_path(name) for label, name in names.items()}
    sockets = {label: listen_unix(path) for label, path in paths.items()}
    await doors.adopt([sockets])
    await doors.close_unused()
    assert list(doors.kept) == ["slot cart@1.0"]
    assert [label for label, path in paths.items() if os.path.exists(path)] == ["slot cart@1.0"]
    assert [label for label, sock in sockets.items() if sock.fileno() >= 0] == ["slot cart@1.0"]
    doors.close()


async def test_of_a_socket_that_several_zygotes_kept_one_stays_and_all_keep_that(state: SupervisorState):
    zygotes = [ZygoteClient(Load(Settings(app="app:app", root="/nowhere"), ""), lambda _: (0, 0)) for _ in range(2)]
    doors = Listeners(state, lambda: zygotes)
    one, same, other = (listen_unix(state.folder.socket_path(name)) for name in ("a", "a2", "b"))
    await doors.adopt([{"slot cart@1.0": one}, {"slot cart@1.0": same, "slot cart@1.1": other}])
    assert doors.kept == {"slot cart@1.0": one, "slot cart@1.1": other}
    assert same.fileno() < 0
    doors.close()


async def test_the_socket_of_a_zygote_that_is_gone_is_removed(state: SupervisorState):
    path = state.folder.socket_path("zygote-1234")
    listen_unix(path).close()
    assert (
        await ReleaseLoader(state, lambda _: (0, 0), ReleaseStore(state.folder.path, state.root, print), print).adopt()
        == []
    )
    assert not os.path.exists(path)


def test_a_socket_that_a_replica_of_the_same_serial_has_left_is_in_nobodys_way(tmp_path: Path):
    for _ in range(2):
        listen_handover(str(tmp_path / "edge-1.sock")).close()

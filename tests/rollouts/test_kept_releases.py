"""Which releases are kept, with which code, and that a rollback finds them as they were."""

import time
from pathlib import Path

import pytest
from background import wait_until
from chained import Chain, chain, traffic


@pytest.fixture
def app(tmp_path: Path):
    with chain(tmp_path / "app") as found:
        yield found


def test_a_comment_is_no_reason_to_run_from_another_copy(app: Chain):
    (app.folder / "fissile.toml").write_text('app = "chain:app"\n\n[releases]\nkeep = 1\n')
    app.edit("back", VERSION=2)
    app.deploy()
    copies = app.folder / ".fissile" / "code"
    before, pids = sorted(copies.iterdir()), app.all_pids()
    file = app.folder / "chain" / "back.py"
    file.write_text(f"# Why it is so.\n{file.read_text()}")
    assert "nothing to do" in app.deploy()
    assert (sorted(copies.iterdir()), app.all_pids()) == (before, pids)


def test_a_release_that_never_served_is_not_kept(app: Chain):
    (app.folder / "fissile.toml").write_text('app = "chain:app"\n\n[releases]\nkeep = 1\n')
    first = app.status()["release"]
    app.edit("back", VERSION=2)
    app.deploy()
    copies = app.folder / ".fissile" / "code"
    before = sorted(copies.iterdir())
    for number in (3, 4):
        app.edit("back", VERSION=number)
        app.order("deploy", "--canary", "10%", "--watch", "100s")
        app.order("abort")
        wait_until(lambda: app.status()["rollout"] is None, "it is over")
    wait_until(lambda: sorted(copies.iterdir()) == before, "their code has gone")
    assert len(app.order("releases").splitlines()) == 1 + 2  # with the header
    app.order("rollback", "--wait")
    assert app.status()["release"] == first


def test_a_deploy_that_takes_the_place_of_another_keeps_its_code(app: Chain):
    (app.folder / "fissile.toml").write_text('app = "chain:app"\n\n[releases]\nkeep = 1\n')
    for version in (2, 3):
        app.edit("back", VERSION=version)
        app.deploy()
    app.edit("back", VERSION=4)
    app.order("deploy", "--canary", "10%", "--watch", "100s")
    app.edit("back", VERSION=5)
    app.deploy()
    supervisor = app.status()["supervisor"]
    app.kill(supervisor["zygote"])
    (back,) = app.pids("back")
    app.kill(back)
    with traffic(app) as seen:
        time.sleep(0.5)
    assert not seen.failures
    assert set(seen.versions) == {(1, 1, 5)}


def test_a_rollback_goes_to_that_very_release_whatever_was_added_meanwhile(app: Chain):
    first = app.status()["release"]
    app.edit("back", VERSION=2)
    app.deploy()
    (app.folder / "chain" / "undeployed.py").write_text("X = 1\n")
    (app.folder / "chain" / "notes.txt").write_text("x")
    said = app.order("rollback", "--wait")
    assert "not all is as it was" not in said
    assert app.status()["release"] == first

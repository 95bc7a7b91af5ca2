"""Rollouts under load: nothing is lost, nothing is mixed, and nothing is touched that need not be."""

import json
import os
import signal
import time
from pathlib import Path

import pytest
from background import wait_until
from chained import Chain, chain, traffic

ONE = (1, 1, 1)


@pytest.fixture
def app(tmp_path: Path):
    with chain(tmp_path / "app") as found:
        yield found


def test_a_deploy_starts_what_changed_alone_and_mixes_no_versions(app: Chain):
    before = app.all_pids()
    with traffic(app, paths=("/", "/", "/", "/slow", "/stream")) as seen:
        app.edit("back", VERSION=2)
        assert "back  starts anew" in app.order("deploy", "--plan")
        assert app.all_pids() == before
        app.deploy()
        time.sleep(0.2)
    assert not seen.failures
    assert set(seen.versions) == {ONE, (1, 1, 2)}
    after = app.all_pids()
    assert after["back"] != before["back"]
    assert {name: pids for name, pids in after.items() if name != "back"} == {
        name: pids for name, pids in before.items() if name != "back"
    }


def test_the_edge_itself_is_replaced(app: Chain):
    with traffic(app, paths=("/", "/", "/", "/slow")) as seen:
        app.edit("front", VERSION=2)
        app.edit("back", VERSION=2)
        app.deploy()
        time.sleep(0.2)
    assert not seen.failures
    assert set(seen.versions) == {ONE, (2, 1, 2)}


def test_a_running_monolith_is_split_and_put_together_again(tmp_path: Path):
    with chain(tmp_path / "app", "monolith") as app:
        with traffic(app, paths=("/", "/", "/", "/slow", "/stream")) as seen:
            for topology in ("microservices", "duo", "monolith"):
                app.deploy("--topology", topology)
                assert app.status()["topology"] == topology
        assert not seen.failures
        assert set(seen.versions) == {ONE}
        assert list(app.all_pids()) == ["app"]


def test_back_to_an_earlier_release_though_its_code_is_gone(app: Chain):
    first = app.status()["release"]
    app.edit("back", VERSION=2)
    app.deploy()
    app.edit("back", VERSION=3)
    app.deploy()
    third = app.status()["release"]
    for file in (app.folder / "chain").iterdir():
        file.unlink() if file.is_file() else None
    with traffic(app) as seen:
        app.order("rollback", "--wait")
    assert set(seen.versions) == {(1, 1, 3), (1, 1, 2)}
    # A rollback is not taken back by the next one: that goes further.
    with traffic(app) as again:
        app.order("rollback", "--wait")
    assert set(again.versions) == {(1, 1, 2), ONE}
    assert app.status()["release"] == first
    assert "no earlier release" in app.order("rollback", code=1)
    app.order("rollback", third, "--wait")
    with traffic(app) as last:
        time.sleep(0.3)
    assert set(last.versions) == {(1, 1, 3)}
    assert not [*seen.failures, *again.failures, *last.failures]


def test_a_rollback_at_once_goes_to_what_served_just_before(app: Chain):
    app.edit("back", VERSION=2)
    app.deploy()
    app.edit("back", VERSION=3)
    with traffic(app, paths=("/", "/stream")) as seen:
        app.order("deploy")  # which moved, and is hardly over: streams are under way
        app.order("rollback", "--wait")
    assert not seen.failures
    with traffic(app) as after:
        time.sleep(0.3)
    assert set(after.versions) == {(1, 1, 2)}


def test_a_canary_gets_its_share_and_is_promoted(app: Chain):
    app.edit("back", VERSION=2)
    with traffic(app, rate=200) as seen:
        app.order("deploy", "--canary", "20%", "--watch", "100s")
        assert app.status()["rollout"]["stage"] == "canary"
        time.sleep(2)
    share = seen.versions[1, 1, 2] / seen.count
    assert 0.1 < share < 0.3
    with traffic(app) as rest:
        app.order("promote")
        wait_until(lambda: app.status()["rollout"] is None, "the rollout is over")
        time.sleep(0.3)
    assert rest.versions[1, 1, 2] > rest.versions.get(ONE, 0)
    assert not [*seen.failures, *rest.failures]


def test_nothing_ends_before_whoever_calls_it_knows_of_the_move(app: Chain):
    app.edit("back", VERSION=2)
    app.order("deploy", "--canary", "50%", "--watch", "100s")
    (front,) = app.pids("front")
    os.kill(front, signal.SIGSTOP)  # so it hears of the move late, and gives requests to the old release meanwhile
    try:
        app.order("promote")
        wait_until(lambda: app.status()["rollout"]["stage"] == "promoted", "it has moved")
        time.sleep(0.5)
        assert not [e for e in app.history() if e["what"] == "DrainSets"]
        assert "requests for the outgoing release" in app.status()["rollout"]["waits"]
    finally:
        os.kill(front, signal.SIGCONT)
    wait_until(lambda: app.status()["rollout"] is None, "it is over")


def test_a_good_canary_goes_on_by_itself(app: Chain):
    app.edit("front", VERSION=2)
    with traffic(app, rate=150) as seen:
        said = app.deploy("--canary", "50%", "--watch", "4s")
        time.sleep(0.2)
    assert "requests failed" in said
    assert not seen.failures
    assert set(seen.versions) == {ONE, (2, 1, 1)}


@pytest.mark.parametrize(
    ("component", "values", "words"),
    [
        ("back", {"FAILING_SHARE": 0.3}, "rolled back"),
        ("back", {"PAUSE_SECONDS": 0.2}, "took longer"),
        ("front", {"VERSION": "crash"}, "Traceback"),
    ],
    ids=["errors", "slow", "edge"],
)
def test_a_bad_release_takes_itself_back(app: Chain, component: str, values: dict[str, object], words: str):
    before = app.all_pids()
    if component == "front":
        file = app.folder / "chain" / "front.py"
        file.write_text(file.read_text().replace("async def app(scope, receive, send):", "async def app(scope):"))
        words = "failed"
    else:
        app.edit(component, VERSION=2, **values)
    with traffic(app, rate=200) as seen:
        said = app.deploy("--canary", "10%", "--watch", "60s", code=1)
        time.sleep(0.3)
    assert "was rolled back: " in said
    assert words in said
    assert app.all_pids() == before
    assert len(seen.failures) < seen.count * 0.1
    with traffic(app) as after:
        time.sleep(0.5)
    assert not after.failures
    assert set(after.versions) == {ONE}


def test_no_traffic_is_inconclusive_and_a_person_decides(app: Chain):
    app.edit("back", VERSION=2)
    said = app.order("deploy", "--canary", "10%", "--watch", "1s", "--wait", code=3)
    assert "inconclusive, so it stops here" in said  # whoever waits is told, and waits no longer
    assert "`fissile promote` or `fissile abort` decides" in said
    assert app.status()["rollout"]["stage"] == "canary"
    app.order("abort")
    wait_until(lambda: app.status()["rollout"] is None, "it is over")
    said = app.order("deploy", "--canary", "10%", "--watch", "1s", "--wait", "--json", code=3)
    assert "inconclusive, so it stops here" in json.loads(said)["outcome"]["undecided"]
    app.order("abort")
    wait_until(lambda: app.status()["rollout"] is None, "it is over")
    with traffic(app) as seen:
        time.sleep(0.3)
    assert set(seen.versions) == {ONE}


def test_a_newer_deploy_takes_the_place_of_one_that_is_watched(app: Chain):
    with traffic(app) as seen:
        app.edit("back", VERSION=2)
        app.order("deploy", "--canary", "10%", "--watch", "100s")
        app.edit("back", VERSION=3)
        app.deploy()
        time.sleep(0.2)
    assert not seen.failures
    assert set(seen.versions) <= {ONE, (1, 1, 2), (1, 1, 3)}
    assert app.status()["rollout"] is None
    with traffic(app) as after:
        time.sleep(0.3)
    assert set(after.versions) == {(1, 1, 3)}


@pytest.mark.parametrize("stage", ["canary", "promoted"])
def test_a_killed_supervisor_leaves_a_rollout_to_the_next(app: Chain, stage: str):
    app.edit("back", VERSION=2)
    with traffic(app, paths=("/", "/slow")) as seen:
        app.order("deploy", *(("--canary", "50%", "--watch", "100s") if stage == "canary" else ()))
        app.kill(app.supervisor())
        result = app.up()
        assert result
        if stage == "canary":
            assert app.status()["rollout"]["stage"] == "canary"
            app.order("promote")
        wait_until(lambda: app.status()["rollout"] is None, "it is over")
        time.sleep(0.2)
    assert not seen.failures
    assert set(seen.versions) == {ONE, (1, 1, 2)}
    with traffic(app) as after:
        time.sleep(0.3)
    assert set(after.versions) == {(1, 1, 2)}

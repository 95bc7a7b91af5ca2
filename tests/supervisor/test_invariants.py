"""A supervisor of real processes finds a mistake of its own: it says so, and goes on."""

from pathlib import Path
from typing import Any

import pytest
from supervised import running, until

from fissile.names import SetName
from fissile.orchestrator.desired import DesiredSet
from fissile.orchestrator.invariants import Invariant
from fissile.orchestrator.replica import Observed, ReplicaState


async def test_a_broken_invariant_is_told_once_with_its_state_and_all_goes_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    async with running(folder) as app:
        (before,) = app.pids("back")
        observed = app.supervisor.parts.state.observed
        serves: Any = Observed._serves

        def mistaken(one: Observed, found: Any, replica: Any, now: float) -> None:
            serves(one, found, replica, now)
            one._become(replica, ReplicaState.STARTING, now)

        monkeypatch.setattr(Observed, "_serves", mistaken)
        assert await app.supervisor.operations.restart("back")
        assert await app.supervisor.operations.restart("back")
        (after,) = app.pids("back")
        assert after != before
        assert observed.broken == []
        history = app.supervisor.journal.history(limit=1000)
        (told,) = [entry for entry in history if entry.what == "InvariantBroken"]
        assert told.service == "back"
        assert told.reason.startswith("internal error, please report it: a replica's states are one-way")
        state = told.data["state"]
        assert state["invariant"] == Invariant.REPLICA_STATES.name
        assert state["desired"]["replicas"] == 1
        assert any("ready" in line for line in state["observed"])
        assert (app.output.err + app.output.out).count(b"please report it") == 1


async def test_a_change_that_breaks_something_is_refused_and_the_supervisor_goes_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    async with running(folder) as app:
        with monkeypatch.context() as patch:

            def lost(desired: Any, _: Any) -> Any:
                return type(desired)({**desired.sets, SetName("lost@1"): DesiredSet()}, desired.current)

            patch.setattr("fissile.orchestrator.change_writer.apply", lost)
            with pytest.raises(Exception, match="internal error: lost@1 would belong to no live release"):
                await app.supervisor.operations.scale("back", 2, 2)
        assert len(app.pids("back")) == 1
        await app.supervisor.operations.scale("back", 2, 2)
        await until(lambda: len(app.pids("back")) == 2, "two replicas")

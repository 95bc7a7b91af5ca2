"""The shell around a rollout's decisions, where somebody is faster than it."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fissile.errors import ConfigError
from fissile.journal.journal import JournalError
from fissile.machine.zygote.protocol import Loaded
from fissile.orchestrator.acts import (
    AbortRollout,
    AcknowledgeRoutes,
    AdvanceRollout,
    BeginRollout,
    Change,
    DrainSets,
    EndRollout,
    PromoteRollout,
    RetireSets,
)
from fissile.orchestrator.change import apply
from fissile.orchestrator.deploy_rules import DeployOrder
from fissile.orchestrator.desired import Desired, DesiredSet, LiveRelease, Rollout, Stage
from fissile.orchestrator.replica import ReplicaReady
from fissile.releases.release import Release, build_of
from fissile.settings.schema import Settings
from fissile.supervisor.code_copies import CodeCopies
from fissile.supervisor.comparison import DeployComparison
from fissile.supervisor.deployer import Deployer
from fissile.supervisor.loaded_release import LoadedRelease
from fissile.supervisor.migrations import Migrations
from fissile.supervisor.outcomes import RolloutOutcomes
from fissile.supervisor.rollout_controller import RolloutController
from fissile.supervisor.rollout_migrations import RolloutMigrations
from fissile.supervisor.state import SupervisorState
from fissile.supervisor.state_folder import StateFolder

WANT = DesiredSet(release="old")


def loaded(text: str) -> LoadedRelease:
    """A release of one service without components."""
    release = Release("shop", "monolith", {"app": ()}, {"app": build_of({"app": text})}, {}, {})
    return LoadedRelease(Loaded("shop", {"app": ()}, {}, (), {}, release), Settings(), None, {})  # pyright: ignore


class Shell:
    """All that a rollout needs, and a person who is faster. meanwhile: what he does, once for each kind of act."""

    def __init__(self, folder: Path, desired: Desired) -> None:
        self.state = SupervisorState(Settings(root=str(folder)), "monolith", StateFolder(folder))
        self.state.app.replace_desired(desired)
        self.loaded = loaded("new")
        self.acts: list[str] = []
        self.meanwhile: dict[type, Callable[[], None]] = {}
        self.given_up: list[LoadedRelease] = []
        self.kept: dict[str, Any] = {}
        self.made: list[str] = []
        self.lost: set[str] = set()
        # Until when a copy is being made: until something was pruned.
        self.slow: threading.Event | None = None
        self.journal: Any = None
        copies = CodeCopies(self.state, self, self)  # pyright: ignore
        migrations = Migrations(self, self.launch)  # pyright: ignore
        self.rollouts = RolloutController(
            self.state,
            *(self, self, self, self, self, self, self),  # pyright: ignore
            copies,
            RolloutMigrations(self.state, migrations),
            RolloutOutcomes(self.state, lambda: self.journal),
        )
        self.deployer = Deployer(
            self.state,
            *(self, self, self, self, self, self, self),  # pyright: ignore
            copies,
            migrations,
            DeployComparison(self.state, self),  # pyright: ignore
            self.rollouts,
        )

    def ready(self, name: str) -> None:
        replica = self.state.observed.begin(name, 0, 1, "build", 0.0)
        self.state.observed.observe(replica, ReplicaReady(), 0.0)

    def by_person(self, act: Any) -> None:
        self.state.app.replace_desired(apply(self.state.desired, Change("anna", act, "because")))

    # -- of the supervisor

    async def change(self, change: Change, *, secrets: bool = False) -> None:
        self.meanwhile.pop(type(change.what), lambda: None)()
        self.state.app.replace_desired(apply(self.state.desired, change))
        self.acts.append(type(change.what).__name__)

    async def next_step(self) -> None:
        self.meanwhile.pop(type(None), lambda: None)()
        await asyncio.sleep(0)

    async def dismiss(self) -> None:
        self.meanwhile.pop(RolloutController, lambda: None)()
        for _ in range(100):
            await asyncio.sleep(0.001)

    def log(self, text: str) -> None:
        assert "internal error" not in text

    async def launch(self, *_: Any) -> Any:
        raise NotImplementedError

    # -- of the releases that are kept, and loaded

    def reread(self, settings: Settings) -> Settings:
        return settings

    @property
    def copies(self) -> "Shell":
        return self

    def make(self, settings: Settings) -> Settings:
        copy = str(self.state.folder.path / str(len(self.made)))
        self.made.append(copy)
        if self.slow is not None:
            self.slow.wait(1.0)
        return msgspec.structs.replace(settings, root=copy)

    def prune(self, keep: int, serving: set[str], used: set[str]) -> None:
        self.lost |= set(self.made) - used
        if self.slow is not None:
            self.slow.set()

    async def close_unused(self) -> None: ...

    async def tidy(self) -> None: ...

    def mark_served(self, name: str) -> None:
        pass

    def write_back(self, used: set[str], **more: Any) -> list[str]:
        return []

    def forget(self, settings: Settings, used: set[str]) -> None:
        pass

    def does(self, what: str) -> AbstractContextManager[None]:
        return nullcontext()

    async def load(self, settings: Settings, topology: str, kept: dict[str, Any], **more: Any) -> LoadedRelease:
        return self.loaded

    async def check_programs(self, found: LoadedRelease) -> LoadedRelease:
        return found

    async def give_up(self, found: LoadedRelease) -> None:
        self.given_up.append(found)


async def test_a_step_that_was_decided_too_early_is_looked_at_again(tmp_path: Path):
    current = LiveRelease("old", {"app": "app@1"}, (("app",),))
    later = LiveRelease("new", {"app": "app@2"}, (("app",),))
    desired = Desired({"app@1": WANT}, current)
    begun = BeginRollout(Rollout(1, later, {"app@2": msgspec.structs.replace(WANT, release="new")}))
    shell = Shell(tmp_path, apply(desired, Change("anna", begun, "a deploy")))
    shell.ready("app@1")
    shell.ready("app@2")
    # An abort is written while the step to `moved` waits for its turn.
    shell.meanwhile[AdvanceRollout] = lambda: shell.by_person(AbortRollout(0.0))
    work = asyncio.create_task(shell.rollouts.run())
    async with asyncio.timeout(5.0):
        while DrainSets.__name__ not in shell.acts:
            await asyncio.sleep(0)
    work.cancel()
    assert shell.acts == [AcknowledgeRoutes.__name__, RetireSets.__name__, DrainSets.__name__]
    assert shell.state.desired.rollout is not None
    assert shell.state.desired.rollout.stage is Stage.ROLLING_BACK
    assert shell.state.desired.sets["app@2"].replicas_max == 0
    assert shell.state.desired.sets["app@1"] == WANT


class FullDisk:
    """A journal that cannot be read for once."""

    def __init__(self) -> None:
        self.troubles = 1

    def kept(self, name: str) -> bytes | None:
        if self.troubles:
            self.troubles -= 1
            raise JournalError("the disk is full")
        return None


async def test_migrations_that_could_not_be_looked_up_are_looked_up_again(tmp_path: Path):
    old, new = loaded("old"), loaded("new")
    begun = BeginRollout(Rollout(1, new.live(), {}, stage=Stage.MIGRATING))
    shell = Shell(tmp_path, apply(Desired({"app": WANT}, old.live()), Change("anna", begun, "a deploy")))
    shell.state.releases.by_name = {old.release.name: old, new.release.name: new}
    shell.journal = FullDisk()
    work = asyncio.create_task(shell.rollouts.run())
    async with asyncio.timeout(5.0):
        while AdvanceRollout.__name__ not in shell.acts:
            await asyncio.sleep(0.01)
    work.cancel()
    assert shell.journal.troubles == 0


async def test_what_was_expected_is_looked_at_again_after_waiting(tmp_path: Path):
    """Somebody promotes the canary that a deploy was about to give up: another release serves now."""
    old, canary = loaded("old"), loaded("canary")
    desired = Desired({"app": WANT}, old.live())
    begun = BeginRollout(Rollout(1, canary.live(), {}, share=0.5, watch_seconds=60.0))
    desired = apply(desired, Change("anna", begun, "a deploy"))
    shell = Shell(tmp_path, apply(desired, Change("fissile", AdvanceRollout(Stage.CANARY, 0.0, 1, Stage.STARTING), "")))
    shell.state.releases.by_name = {old.release.name: old, canary.release.name: canary}

    def promoted() -> None:
        shell.by_person(PromoteRollout(0.0))
        shell.by_person(AdvanceRollout(Stage.PROMOTED, 0.0, 1, Stage.SCALING_UP))
        shell.meanwhile[type(None)] = lambda: shell.by_person(EndRollout(1, True))

    shell.meanwhile[AbortRollout] = promoted
    with pytest.raises(ConfigError, match=f"{canary.release.name} runs, not {old.release.name}"):
        await shell.deployer.deploy(DeployOrder(expect=old.release.name))
    assert shell.given_up == [shell.loaded]
    assert shell.acts == []


async def test_the_end_of_a_rollout_removes_no_copy_that_is_just_made(tmp_path: Path):
    """Whoever sees that a rollout is over deploys at once, while its end still closes and prunes."""
    old, new = loaded("old"), loaded("new")
    rollout = Rollout(1, new.live(), {}, stage=Stage.PROMOTED)
    shell = Shell(
        tmp_path, Desired({"app": msgspec.structs.replace(WANT, release=new.release.name)}, old.live(), rollout)
    )
    shell.state.releases.by_name = {old.release.name: old, new.release.name: new}
    shell.loaded = new
    shell.slow = threading.Event()
    deploys: list[asyncio.Task[Any]] = []
    shell.meanwhile[RolloutController] = lambda: deploys.append(
        asyncio.create_task(shell.deployer.deploy(DeployOrder(plan=True)))
    )
    work = asyncio.create_task(shell.rollouts.run())
    async with asyncio.timeout(5.0):
        while not deploys or not deploys[0].done():
            await asyncio.sleep(0.001)
    assert not work.done()
    work.cancel()
    await deploys[0]
    assert shell.made
    assert not shell.lost

"""Changes are written one after the other, and hold once they are written."""

from collections.abc import Callable

import pytest

from fissile.errors import FissileError
from fissile.orchestrator.acts import Change, RestartService, ScaleService
from fissile.orchestrator.change import ChangeRefused
from fissile.orchestrator.change_writer import ChangeWriter, Done
from fissile.orchestrator.desired import Desired, DesiredSet
from fissile.orchestrator.state import ApplicationState

NOW = 5.0
BEFORE = Desired({"shop": DesiredSet(1, 1, 9)})


class Disk:
    """A journal that is as slow as the test wants it to be."""

    def __init__(self) -> None:
        self.writing: list[tuple[Change, Desired, bool]] = []
        self._done: Done | None = None

    def write(self, change: Change, desired: Desired, *, secrets: bool, done: Done) -> None:
        assert self._done is None, "two at a time"
        self.writing.append((change, desired, secrets))
        self._done = done

    def over(self, error: FissileError | None = None) -> None:
        assert self._done is not None
        done, self._done = self._done, None
        done(error, NOW)


class Writing:
    """A writer, its journal, and what became of each change."""

    def __init__(self) -> None:
        self.state, self.disk = ApplicationState({}, 0), Disk()
        self.writer = ChangeWriter(self.state, self.disk)
        self.writer.begin(BEFORE)
        self.became: list[tuple[str, FissileError | None]] = []

    def submit(self, why: str, low: int, high: int, then: Callable[[], None] = lambda: None) -> None:
        def done(error: FissileError | None, now: float) -> None:
            assert now == NOW
            self.became.append((why, error))
            then()

        self.writer.submit(Change("anna", ScaleService("shop", low, high), why), done, NOW)

    def counts(self) -> tuple[int, int]:
        want = self.state.desired.sets["shop"]
        return want.replicas_min, want.replicas_max


def test_a_change_holds_once_it_is_written():
    one = Writing()
    one.submit("more", 2, 4)
    assert one.counts() == (1, 9)
    one.disk.over()
    assert one.counts() == (2, 4)
    assert one.became == [("more", None)]


def test_each_is_written_with_those_before_it():
    one = Writing()
    one.submit("a", 2, 4)
    one.submit("b", 3, 3)
    assert len(one.disk.writing) == 1
    assert [change.why for change in one.writer.pending] == ["b"]
    one.disk.over()
    assert one.counts() == (2, 4)
    one.disk.over()
    assert one.counts() == (3, 3)
    assert [why for why, _ in one.became] == ["a", "b"]


def test_what_is_refused_or_cannot_be_written_alters_nothing_and_keeps_nobody():
    one = Writing()
    full = FissileError("the disk is full")
    one.submit("lost", 2, 4)
    one.submit("refused", 5, 1)
    one.submit("written", 3, 3)
    one.disk.over(full)
    assert one.counts() == (1, 9)
    one.disk.over()
    assert one.counts() == (3, 3)
    (_, lost), (_, refused), (_, written) = one.became
    assert (lost, written) == (full, None)
    assert isinstance(refused, ChangeRefused)


def test_who_hears_of_a_change_may_want_another_one():
    one = Writing()
    one.submit("first", 2, 4, lambda: one.submit("second", 3, 3))
    one.disk.over()
    one.disk.over()
    assert one.counts() == (3, 3)


def test_a_supervisor_does_not_begin_while_a_change_is_written():
    one = Writing()
    one.writer.submit(Change("anna", RestartService("shop", 2), "why"), lambda error, now: None, NOW)
    with pytest.raises(AssertionError):
        one.writer.begin(BEFORE)

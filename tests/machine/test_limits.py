"""Limits: what fits, and what a machine grants."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fissile.errors import ConfigError
from fissile.machine.limits import Limits, Usage, detect, limits_of, parse_size, ran_out_of_memory
from fissile.orchestrator.health import over_memory
from fissile.orchestrator.reasons.reason import size_text
from fissile.settings.schema import LimitSettings


@pytest.mark.parametrize(
    ("text", "count"), [("64K", 65536), ("256M", 2**28), ("1.5G", 3 * 2**29), ("8 MiB", 2**23), ("100", 100), (7, 7)]
)
def test_sizes(text: str | int, count: int):
    assert parse_size(text) == count


@given(st.integers(0, 2**44))
def test_a_size_in_words_is_about_that_size(count: int):
    assert parse_size(size_text(count)) == pytest.approx(count, rel=0.001)


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (LimitSettings(memory="lots"), "'lots' is not a size"),
        (LimitSettings(memory="900T"), "which this machine has"),
        (LimitSettings(memory="1M"), "write between 16M"),
        (LimitSettings(cpu=1000.0), "the cores of this machine"),
        (LimitSettings(files=10), "write between 64"),
        (LimitSettings(disk=("nowhere",)), "there is no folder /nowhere: make it"),
    ],
)
def test_limits_that_do_not_fit_the_machine(limits: LimitSettings, words: str):
    with pytest.raises(ConfigError, match=words):
        limits_of("back", limits, "/")


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_version_two_where_it_is_delegated(tmp_path: Path):
    own = tree(tmp_path, {"own": "0::/app.service\n"}) / "own"
    root = tree(
        tmp_path / "cgroup",
        {
            "cgroup.controllers": "cpu memory pids",
            "app.service/cgroup.controllers": "cpu memory pids",
            "app.service/cgroup.procs": f"{os.getpid()}\n",
            "app.service/cgroup.subtree_control": "",
        },
    )
    found = detect("app", root=root, own=own)
    assert (found.name, found.missing) == ("cgroup v2", "")
    assert (root / "app.service/supervisor/cgroup.procs").read_text() == str(os.getpid())
    assert (root / "app.service/cgroup.subtree_control").read_text() == "+memory +cpu +pids"
    files = found.prepare("back.0.1", Limits(2**26, 0.5, None, 40))
    group = root / "app.service/back.0.1"
    assert files == (str(group / "cgroup.procs"),)
    wanted = {"memory.max": str(2**26), "memory.swap.max": "0", "memory.oom.group": "1"}
    wanted |= {"cpu.max": "50000 100000", "pids.max": "40"}
    assert {file.name: file.read_text() for file in group.iterdir()} == wanted
    tree(group, {"memory.peak": "67108864", "memory.current": "5", "memory.events": "low 0\noom 1\noom_kill 1\n"})
    assert found.usage("back.0.1", 0) == Usage(5, 67108864, True)


def test_version_two_that_others_live_in_is_not_ours(tmp_path: Path):
    own = tree(tmp_path, {"own": "0::/session\n"}) / "own"
    root = tree(
        tmp_path / "cgroup",
        {"cgroup.controllers": "memory", "session/cgroup.controllers": "memory", "session/cgroup.procs": "1\n2\n"},
    )
    found = detect("app", root=root, own=own)
    assert found.name == "rlimits and watch"
    assert "delegated" in found.missing
    assert found.prepare("back.0.1", Limits(2**26)) == ()


def test_watched_memory():
    assert str(over_memory(2**27, 2**26)) == "it ran out of memory: it uses 128M of 64M"
    assert over_memory(2**25, 2**26) == over_memory(None, 2**26) == over_memory(2**40, None) is None
    assert (
        str(ran_out_of_memory(7, Usage(0, 2**26, True), Limits(2**26)))
        == "pid 7 ran out of memory, at a peak of 64M of 64M"
    )

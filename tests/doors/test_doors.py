"""A small siege of each door, with a process that has 1,024 descriptors among them. `make doors` raises long ones."""

import asyncio
import random
import resource

import pytest

from tests.doors.__main__ import DOORS, crowd_at

SECONDS = 4.0
DESCRIPTORS_MIN = 4096
MEMORY_MIB_MAX = 100

pytestmark = pytest.mark.skipif(
    resource.getrlimit(resource.RLIMIT_NOFILE)[1] < DESCRIPTORS_MIN, reason="the crowd needs 2,300 descriptors"
)


@pytest.mark.parametrize(("door", "files"), [*((door, 0) for door in DOORS), ("page", 1024)])
def test_ordinary_visitors_are_served_beside_a_crowd(door: str, files: int) -> None:
    """How fast is measured where the machine has nothing else to do."""
    seed = random.SystemRandom().randrange(1_000_000)
    made = asyncio.run(crowd_at(door, SECONDS, seed, files=files, without=1.0))
    assert not made.without.failed, made.line()
    assert not made.beside.failed, f"seed {seed}: {made.line()} {made.beside.failed[0]}"
    assert min(made.crowd["sent_away"].values()) > 0, made.line()
    assert made.memory[1] - made.memory[0] < MEMORY_MIB_MAX, made.line()

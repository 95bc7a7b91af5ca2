"""Two small storms, one of them new each time. `make storm` raises a large one."""

import random

import pytest

from tests.storm.__main__ import raise_storm

CALLS = 30_000
# What it may take on a busy machine; a quiet one needs a tenth of it.
SECONDS_MAX = 100.0
FIXED_SEED = 2


@pytest.mark.parametrize("kind", ["fixed", "random"])
def test_storm(kind: str) -> None:
    seed = FIXED_SEED if kind == "fixed" else random.SystemRandom().randrange(1_000_000)
    kept, lines = raise_storm(seed, CALLS, seconds_max=SECONDS_MAX, settle_seconds=0.0)
    assert kept, f"seed {seed}\n" + "\n".join(lines)

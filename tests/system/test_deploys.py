"""What `make bench` measures of deploys, as behaviour: the shop, under load, through each kind of rollout."""

import asyncio
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import deploys
import pinning

from fissile.bench.report import Figure


def by_name(figures: list[Figure]) -> dict[str, float]:
    """Figures, without what was counted on the way."""
    return {one.name.partition(" of ")[0]: one.value for one in figures}


def test_a_changed_service_is_replaced_alone_and_loses_nothing():
    found = by_name(asyncio.run(deploys.one_service(2)))
    assert found["deploy: one changed service, command to all traffic on it, greatest"] <= 10
    assert found["deploy: requests failed"] == 0
    assert found["deploy: times that other services' processes changed,"] == 0
    # The way that people had before, so that the load can fail at all.
    assert found["by hand: requests failed"] > 0


def test_deploys_in_a_row_leave_nothing_behind():
    found = by_name(asyncio.run(deploys.in_a_row(6)))
    assert found["6 deploys in a row: requests failed"] == 0
    assert found["6 deploys in a row: growth"] <= 8  # both have this beginning: processes, the last, and MiB


@pytest.mark.timeout(240)
def test_a_running_monolith_is_split_and_joined_under_load():
    split, figures = asyncio.run(deploys.split_figures(0.5))
    found = by_name(figures)
    assert found["live split and back: requests failed"] == 0, split.load.failures
    assert found["live split and back: answers"] == 0
    assert split.bought.count("ok") == len(split.bought) > 0


@pytest.mark.parametrize("mistake", list(deploys.MISTAKES))
def test_a_bad_release_rolls_itself_back(mistake: str):
    seconds, hurt, count, _ = asyncio.run(deploys.bad_release(mistake, *deploys.CANARY))
    assert seconds <= 30
    assert hurt <= 0.15 * count + 10


def test_a_request_hardly_pays_for_staying_in_its_release():
    (pinned, _) = pinning.measure(1)
    assert pinned.value <= 1.2


def test_the_shop_is_watched_and_taken_back_by_hand_without_losing_a_request():
    async def run() -> tuple[list[str], list[str]]:
        async with (
            deploys.running(deploys.SHOP, "microservices") as shop,
            deploys.loaded(shop.page, 60.0, *deploys.PAGES) as load,
            deploys.shopping(shop.page) as bought,
        ):
            shop.edit("shop/catalog.py", WORDS_MAX=7)
            shop.edit("shop/images.py", IN_MEMORY_MAX=400)
            code, out = await shop.deploy("--canary", "50%", "--watch", "2s", "--wait")
            assert code == 0, out
            assert "neither is slower" in out
            code, out = await deploys.command("rollback", "--path", str(shop.folder), "--wait")
            assert code == 0, out
        return load.failures, bought

    failures, bought = asyncio.run(run())
    assert not failures
    assert bought.count("ok") == len(bought) > 0

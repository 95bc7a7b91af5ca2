"""The one door by which anybody alters what is desired."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fissile.orchestrator.acts import Change, GiveUpRestart, RestartService, ScaleService, SetReplicas
from fissile.orchestrator.change import REPLICAS_MAX, ChangeRefused, Desired, DesiredSet, apply

DESIRED = Desired({"cart": DesiredSet(2, 1, 4), "orders": DesiredSet()})


def changed(act: ScaleService | SetReplicas | RestartService | GiveUpRestart) -> DesiredSet:
    after = apply(DESIRED, Change("anna", act, "because"))
    assert after.sets["orders"] == DESIRED.sets["orders"]
    return after.sets["cart"]


@pytest.mark.parametrize(
    ("act", "counts"),
    [
        (ScaleService("cart", 3, 3), (3, 3, 3)),
        (ScaleService("cart", 0, 1), (1, 0, 1)),
        (ScaleService("cart", 1, 9), (2, 1, 9)),
        (SetReplicas("cart", 4), (4, 1, 4)),
        (SetReplicas("cart", 9), (4, 1, 4)),
        (SetReplicas("cart", 0), (1, 1, 4)),
        (RestartService("cart", 7), (2, 1, 4)),
    ],
)
def test_counts(act: ScaleService | SetReplicas | RestartService, counts: tuple[int, int, int]):
    after = changed(act)
    assert (after.replicas, after.replicas_min, after.replicas_max) == counts
    assert after.automatic == (counts[1] < counts[2])


def test_revisions():
    assert changed(RestartService("cart", 7)).revision == 7
    assert changed(GiveUpRestart("cart", 0, instead_of=1)).revision == 0


def test_a_restart_that_was_wanted_meanwhile_is_not_given_up_with_the_one_before():
    restarted = apply(DESIRED, Change("anna", RestartService("cart", 3), "again"))
    with pytest.raises(ChangeRefused, match="this restart of cart is over"):
        apply(restarted, Change("fissile", GiveUpRestart("cart", 1, instead_of=2), "it does not come up"))


@pytest.mark.parametrize(("low", "high"), [(-1, 1), (3, 2), (0, REPLICAS_MAX + 1)])
def test_bounds_that_cannot_be(low: int, high: int):
    with pytest.raises(ChangeRefused, match=f"cart cannot have {low}..{high} replicas"):
        apply(DESIRED, Change("anna", ScaleService("cart", low, high), ""))


def test_an_unknown_service():
    with pytest.raises(ChangeRefused, match=r"there is no service 'carts'(.|\n)*cart, orders"):
        apply(DESIRED, Change("anna", RestartService("carts", 2), ""))


def test_scaled_to_zero_is_so_until_somebody_scales_it_again():
    asleep = apply(DESIRED, Change("anna", ScaleService("cart", 0, 0), "a leak"))
    cart = asleep.sets["cart"]
    assert (cart.replicas, cart.zero_by, cart.automatic) == (0, "anna", False)
    assert (cart.replicas_min, cart.replicas_max) == (1, 4)
    with pytest.raises(ChangeRefused, match="cart is scaled to zero by anna") as refused:
        apply(asleep, Change("autoscaler", SetReplicas("cart", 3), "load"))
    assert refused.value.remedy == "`fissile scale cart 1` brings it back"
    with pytest.raises(ChangeRefused, match="nothing to restart"):
        apply(asleep, Change("ben", RestartService("cart", 2), ""))
    for low, high, replicas in ((1, 1, 1), (2, 6, 2), (0, 4, 0)):
        cart = apply(asleep, Change("ben", ScaleService("cart", low, high), "")).sets["cart"]
        assert (cart.replicas, cart.replicas_min, cart.replicas_max, cart.zero_by) == (replicas, low, high, "")


def test_of_what_only_one_can_be_no_second_is_wanted():
    alone = Desired({"database": DesiredSet(most=1)})
    with pytest.raises(ChangeRefused, match="database cannot have 2 replicas: its `port` is fixed"):
        apply(alone, Change("anna", ScaleService("database", 1, 2), ""))
    assert apply(alone, Change("anna", ScaleService("database", 1, 1), "")).sets["database"].replicas == 1


@given(st.integers(0, 20), st.integers(0, 20), st.integers(0, 30))
def test_the_wish_is_always_between_its_bounds_and_survives_the_journal(low: int, high: int, wanted: int):
    if low > high:
        return
    after = apply(DESIRED, Change("anna", ScaleService("cart", low, high), ""))
    if high:
        after = apply(after, Change("autoscaler", SetReplicas("cart", wanted), ""))
    assert low <= after.sets["cart"].replicas <= high
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(after), type=Desired) == after

"""How many replicas a service gets, as timelines; and by property, what no load can bring about."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fissile.names import SetName
from fissile.orchestrator.acts import SetReplicas
from fissile.orchestrator.autoscale import (
    FREE_SECONDS,
    STABLE_SECONDS,
    Autoscaler,
    Decision,
    Demand,
    ScalingPolicy,
    Window,
)
from tests.orchestrator.timeline import Timeline, service


def cart(replicas: tuple[int, int] = (1, 20), **spec: Any) -> Timeline:
    """A front that calls a cart, on a machine where all are ready at once; two calls are meant for one cart."""
    services = {"front": service(calls="cart"), "cart": service(replicas, **spec)}
    return Timeline(obedient=True, only="scale hold free", **services).at(0)


def steps(*counts: int, at: float, why: str = "…") -> list[str]:
    """One after the other, as often as it is decided."""
    return [f"{at + n / 10:g} scale cart to {count}: {why}" for n, count in enumerate(counts)]


# -- up ---------------------------------------------------------------------------------------------


def test_a_step_is_answered_within_a_second_by_what_the_last_half_of_it_shows():
    shop = cart().load("front.0", cart=2).at(120).load("front.0", cart=20).at(130)
    shop.expect(
        "120.1 scale cart to 3: 5.6 in flight over 0.5 s, 1 ready are meant for 2: panic",
        "120.2 scale cart to 5: 9.2 in flight over 0.5 s, 3 ready are meant for 6: panic",
        "120.3 scale cart to 7: 12.8 in flight over 0.5 s, 5 ready are meant for 10: panic",
        "120.4 scale cart to 9: 16.4 in flight over 0.5 s, 7 ready are meant for 14: panic",
        "120.5 scale cart to 10: 20.0 in flight over 0.5 s, 9 ready are meant for 18: panic",
    )


def test_half_as_much_again_is_answered_within_seconds():
    shop = cart().load("front.0", cart=7).at(1).expect("0.1 scale cart to 4: 7.0 in flight over 6 s, …").at(120)
    shop.load("front.0", cart=12).at(180).expect(
        "122.2 scale cart to 5: 8.9 in flight over 6 s, 4 ready are meant for 8: panic",
        "123.6 scale cart to 6: 10.1 in flight over 6 s, 5 ready are meant for 10: panic",
    )


def test_a_slow_rise_is_followed_by_what_a_whole_minute_shows():
    shop = cart().load("front.0", cart=2).at(120).load("front.0", cart=2.1).at(240)
    shop.expect("120.1 scale cart to 2: 2.0 in flight over 60 s, 2 are meant for one replica")


def test_it_stops_at_the_most_that_it_may_have():
    cart((1, 3)).load("front.0", cart=20).at(9).expect("0.1 scale cart to 3: 20.0 in flight over 6 s, …")


# -- down -------------------------------------------------------------------------------------------


def test_after_a_panic_it_stays_up_for_a_minute_and_then_goes_down_by_halves():
    shop = cart().load("front.0", cart=32).at(2).load("front.0", cart=1).at(180)
    shop.expect(
        "0.1 scale cart to 16: 32.0 in flight over 6 s, 1 ready are meant for 2: panic",
        *steps(8, 4, 2, 1, at=60.2, why="1.6 in flight over 60 s, 2 are meant for one replica"),
    )
    # The next panic has a top of its own.
    shop.load("front.0", cart=5).at(190).expect("180.4 scale cart to 3: 4.2 in flight over 0.5 s, …")


def test_a_load_at_the_border_of_two_counts_does_not_swing():
    shop = cart().load("front.0", cart=4.05).at(200).expect("0.1 scale cart to 3").load("front.0", cart=3.95)
    # 2 replicas are meant for 4: to go down needs a tenth less.
    shop.at(500).expect().load("front.0", cart=3.5).at(700)
    shop.expect("546 scale cart to 2: 3.6 in flight over 60 s, 2 are meant for one replica")


def test_a_supervisor_that_has_just_come_takes_nothing_away_before_it_has_seen_a_whole_minute():
    shop = cart().load("front.0", cart=12).at(70).expect("0.1 scale cart to 6: …").supervisor_dies()
    shop.load("front.0", cart=0).at(129.9).expect().at(140).expect(*steps(3, 2, 1, at=130.2))
    shop.supervisor_dies().load("front.0", cart=6).at(141).expect("140.1 scale cart to 3: …")  # up, it goes at once


# -- to sleep, and awake ------------------------------------------------------------------------------


def test_it_sleeps_when_nothing_comes_and_wakes_at_once():
    shop = cart((0, 5), idle_seconds=5.0).load("front.0", cart=1).at(1).load("front.0", cart=0).at(120)
    shop.expect("6 scale cart to 0: no calls for 5 s").knocks("cart").at(122)
    shop.expect("120.1 scale cart to 1: a call came to it while it slept").at(180)
    shop.expect("125.1 scale cart to 0: no calls for 5 s").load("front.0", cart=1).at(181)
    shop.expect("180.1 scale cart to 1: a call came to it while it slept")


def test_who_is_scaled_to_zero_by_somebody_is_woken_by_nobody_else():
    shop = cart((0, 5), idle_seconds=5.0).scale("cart", 0).at(30).knocks("cart").at(31).load("front.0", cart=9)
    shop.at(40).expect().scale("cart", 2, 5).at(41).started()
    assert len(shop.living("cart")) > 1


def test_no_neighbour_keeps_a_sleeper_asleep():
    specs = {"busy": service((1, 9), target=1.0), "rare": service((0, 3), idle_seconds=1.0)}
    shop = Timeline(obedient=True, only="scale", cores=2, front=service(calls="busy rare"), **specs).at(0)
    shop.load("front.0", busy=50).at(10)
    shop.expect("0.1 scale busy to 3: …, but the 2 cores are shared: 3", "1.1 scale rare to 0: no calls for 1 s")
    shop.knocks("rare").at(11).expect("10.1 scale rare to 1: a call came to it while it slept")


# -- what it may have -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cores", "weights", "counts"), [(4, (1, 1), (3, 3)), (6, (1, 2), (3, 5)), (100, (1, 1), (9, 9))]
)
def test_scarce_cores_are_shared_by_weight(cores: int, weights: tuple[float, float], counts: tuple[int, int]):
    specs = {name: service((1, 9), weight=weight) for name, weight in zip("ab", weights, strict=True)}
    shop = Timeline(obedient=True, only="scale", cores=cores, front=service(calls="a b"), **specs).at(0)
    shop.load("front.0", a=40, b=40).at(9)
    shared = f", but the {cores} cores are shared" if cores < 16 else ""
    a, b = counts
    shop.expect(f"0.1 scale a to {a}: …: panic{shared}…", f"0.1 scale b to {b}: …: panic{shared}…")


def test_bounds_that_were_altered_are_kept_at_once():
    shop = cart().load("front.0", cart=1).at(2).scale("cart", 4, 6).at(9).expect()
    assert len(shop.living("cart")) == 4


def test_what_a_rollout_brings_is_kept_until_its_load_was_seen_for_a_while():
    shop = cart().load("front.0", cart=16).at(70).expect("0.1 scale cart to 8: …").slow("cart@2")
    shop.deploy(cart=service((1, 20)), canary=0.1).at(71).prompt("cart@2").at(72).expect()
    shop.promote().at(73).expect()
    assert len(shop.living("cart")) == 8
    shop.at(132).expect().at(140).started()
    assert len(shop.living("cart")) == 1


def test_what_a_rollout_brings_takes_no_more_than_the_cores_and_nothing_of_what_serves():
    specs = {name: service((1, 20)) for name in "ab"}
    shop = Timeline(obedient=True, only="scale", cores=6, front=service(calls="a b"), **specs).at(0)
    shop.load("front.0", a=40, b=40).at(70).expect("0.1 scale a to 4: …", "0.1 scale b to 4: …")
    shop.slow("a@2").deploy(**specs).at(71).expect()
    for name in "ab":
        shop.by_anna(SetReplicas(shop.set_of(name), 9))
    shop.at(72).started()
    assert [shop.state.desired.sets[SetName(name)].replicas for name in ("a@1", "b@1", "a@2", "b@2")] == [4, 4, 4, 4]


# -- who only waits ----------------------------------------------------------------------------------


def test_who_only_waits_for_another_is_not_scaled_and_the_other_is_named():
    specs = {"cart": service((1, 20), calls="orders mail"), "orders": service(), "mail": service()}
    shop = Timeline(obedient=True, only="scale hold free", front=service(calls="cart"), **specs).at(0)
    shop.load("front.0", cart=20).load("cart.0", orders=19, mail=1).at(3)
    shop.expect(
        "0.1 hold cart: not scaled to 10: 95% of its calls wait for orders, which has 1 replica, a fixed number"
    )
    shop.load("cart.0", orders=8).at(4).expect("3.1 scale cart to 10: 20.0 in flight over 6 s, …").at(400)
    shop.expect("303 free cart: it has not waited for 300 s; it was held for 3 s in 3 s, by orders for 3 s")


def test_who_waits_and_has_enough_is_not_held():
    specs = {"cart": service((1, 20), calls="orders"), "orders": service()}
    shop = Timeline(obedient=True, only="scale hold free", front=service(calls="cart"), **specs).at(0)
    shop.load("front.0", cart=2).load("cart.0", orders=2).at(9).expect()


def test_whoever_stops_to_be_scaled_is_held_no_more():
    specs = {"cart": service((1, 20), calls="orders"), "orders": service((1, 2))}
    shop = Timeline(obedient=True, only="scale hold free", front=service(calls="cart"), **specs).at(0)
    shop.load("front.0", cart=20).load("cart.0", orders=20).at(3).started().scale("cart", 2).at(4)
    shop.expect("3.1 free cart: nothing scales it any more; it was held for 3 s in 3 s, by orders for 3 s")


# -- what a timeline of seconds does not show -------------------------------------------------------------


TICK_SECONDS = 0.1


class Life:
    """Services whose replicas are ready at once."""

    def __init__(self, policies: dict[str, ScalingPolicy], cores: int = 64) -> None:
        self.scaler = Autoscaler()
        self.policies = policies
        self.cores = cores
        self.wanted = {name: max(1, policy.replicas_min) for name, policy in policies.items()}
        self.now = 100.0
        self.decisions: list[tuple[float, Decision]] = []

    def run(self, seconds: float, load: Callable[[str, float], float | Demand]) -> list[Decision]:
        """Let time pass; what was decided meanwhile. load: of a service at the seconds since the beginning of this."""
        begun, made = self.now, []
        for tick in range(round(seconds / TICK_SECONDS)):
            self.now = begun + tick * TICK_SECONDS
            demands: dict[str, Demand] = {}
            for name in self.policies:
                value = load(name, self.now - begun)
                demands[name] = value if isinstance(value, Demand) else Demand(value, self.wanted[name])
            for decision in self.scaler.decide(self.policies, self.wanted, demands, cores=self.cores, now=self.now):
                made.append(decision)
                self.decisions.append((self.now - begun, decision))
                self.wanted[decision.set] = decision.replicas
        self.now = begun + seconds
        return made


def one(maximum: int = 20, *, minimum: int = 1, cores: int = 64, idle_seconds: float = 5.0) -> Life:
    return Life({"cart": ScalingPolicy(minimum, maximum, target=2.0, idle_seconds=idle_seconds)}, cores)


def test_after_a_gap_the_window_begins_anew():
    life = one()
    life.wanted = {"cart": 6}
    life.run(STABLE_SECONDS - 5.0, lambda *_: 12.0)
    life.now += 40.0  # stopped meanwhile, with the load that it had
    life.run(STABLE_SECONDS - 0.5, lambda *_: 0.1)
    assert life.wanted == {"cart": 6}


WAITING = {
    # Their calls in flight, and for whom these wait: cart → orders → stock → db.
    "cart": Demand(20.0, 1, {"orders": 19.0}),
    "orders": Demand(19.0, 1, {"stock": 18.0, "mail": 1.0}),
    "stock": Demand(18.0, 1, {"db": 17.0}, places=64),
    "db": Demand(17.0, 1),
    "mail": Demand(1.0, 1),
}


@pytest.mark.parametrize(
    ("altered", "policies", "by", "said"),
    [
        (
            {},
            {},
            "db",
            "wait for orders, which waits for stock, which waits for db, which has 1 replica, a fixed number",
        ),
        ({"stock": Demand(18.0, 2, {"db": 3.0})}, {}, "stock", "stock, which has 1 replica, a fixed number"),
        (
            {"stock": Demand(18.0, 2, {"db": 3.0})},
            {"stock": 1},
            "stock",
            "stock, which has 1 replica, as many as it may",
        ),
        ({"stock": Demand(18.0, 2, {"db": 3.0})}, {"stock": 9}, "stock", "stock, which has 1 of at most 9 replicas"),
        ({"stock": Demand(16.0, 1, places=16)}, {}, "stock", "a fixed number, all 16 places for calls taken"),
        ({"orders": Demand(19.0, 1)}, {}, "orders", "wait for orders, which has 1 replica, a fixed number"),
        # A call back to who has called ends the chain, and the looking.
        ({"db": Demand(17.0, 1, {"cart": 17.0})}, {}, "db", "which waits for db, which has 1 replica"),
        ({"orders": Demand(19.0, 1, {"cart": 19.0})}, {}, "orders", "wait for orders, which has 1 replica"),
    ],
)
def test_who_holds_it_is_at_the_end_of_the_chain(
    altered: dict[str, Demand], policies: dict[str, int], by: str, said: str
):
    demands = WAITING | altered
    asked = {"cart": ScalingPolicy(1, 20, target=2.0)}
    asked |= {name: ScalingPolicy(1, most, target=100.0) for name, most in policies.items()}
    scaler, wanted = Autoscaler(), dict.fromkeys(demands, 1)
    for tick in range(20):
        scaler.decide(asked, wanted, demands, cores=64, now=tick * TICK_SECONDS)
    (held,) = [one for one in scaler.news() if one.set == "cart"]
    assert held.by == by
    assert said in str(held.reason)


def test_an_hour_of_waiting_is_two_lines_whatever_it_looks_like_from_second_to_second():
    life = one()

    def load(_: str, seconds: float) -> Demand:
        # Now one is the slower of both callees, now the other; and in between there is little to do.
        callee = "orders" if seconds % 3.0 < 2.0 else "stock"
        return Demand(20.0 if seconds % 100.0 < 60.0 else 1.0, 1, {callee: 20.0})

    life.run(3600, load)
    (begun,) = life.scaler.news()
    assert not begun.over
    life.run(FREE_SECONDS + 70.0, lambda *_: Demand(0.0, 1))
    (over,) = life.scaler.news()
    assert (over.over, over.by) == (True, "orders")
    assert life.wanted == {"cart": 1}


def test_the_one_that_held_it_for_the_longest_is_named_at_the_end():
    life = one()
    for callee, seconds in (("orders", 5.0), ("stock", 60.0), ("mail", 5.0)):
        life.run(seconds, lambda *_, callee=callee: Demand(20.0, 1, {callee: 20.0}))
    life.run(FREE_SECONDS + 1.0, lambda *_: Demand(0.0, 1))
    begun, over = life.scaler.news()
    assert (begun.by, over.by) == ("orders", "stock")
    assert str(over.reason) == "it has not waited for 300 s; it was held for 70 s in 70 s, by stock for 60 s"


@settings(max_examples=50)
@given(
    st.lists(st.tuples(st.floats(0, 100), st.floats(0, 100), st.booleans()), min_size=1, max_size=40),
    st.integers(1, 10),
    st.tuples(st.integers(0, 3), st.integers(0, 10)),
)
def test_whatever_comes_the_counts_stay_in_their_bounds_and_in_the_cores(
    loads: list[tuple[float, float, bool]], cores: int, bounds: tuple[int, int]
):
    low, more = bounds
    life = Life({name: ScalingPolicy(low, low + more, target=3.0, idle_seconds=2.0) for name in "ab"}, cores)
    for a, b, wait in loads:
        life.run(1.0, lambda name, _, a=a, b=b, wait=wait: Demand(a if name == "a" else b, 1, {"c": a} if wait else {}))
        assert all(low <= count <= max(low + more, 1) for count in life.wanted.values())
        assert sum(max(0, count - max(low, 1)) for count in life.wanted.values()) <= cores
    assert all(decision.reason for _, decision in life.decisions)


@given(st.lists(st.tuples(st.floats(0, 3), st.floats(0, 1000)), min_size=1, max_size=60))
def test_a_window_is_the_average_of_what_lies_in_it(samples: list[tuple[float, float]]):
    window, now, seen = Window(6.0, 30), 50.0, list[tuple[float, float]]()
    for pause, value in samples:
        now += pause
        window.add(value, now)
        seen.append((int(now / 0.2), value))
    inside = [value for bucket, value in seen if bucket > int(now / 0.2) - 30]
    assert window.average() == pytest.approx(sum(inside) / len(inside), abs=1e-6)

"""How many replicas a service gets, as time passes."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fissile.orchestrator.autoscale import (
    FREE_SECONDS,
    STABLE_SECONDS,
    Autoscaler,
    Decision,
    Demand,
    ScalingPolicy,
    Window,
)

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


def test_a_step_is_answered_within_a_second_and_the_reason_is_told():
    life = one()
    life.run(120, lambda *_: 2.0)
    assert life.wanted == {"cart": 1}
    made = life.run(1.0, lambda *_: 20.0)
    assert life.wanted == {"cart": 10}
    assert "in flight over 0.5 s, 1 ready are meant for 2: panic" in made[0].reason


def test_a_slow_rise_is_followed_without_a_burst():
    life = one()
    life.run(60, lambda *_: 2.0)
    made = life.run(240, lambda _, seconds: 2.0 + seconds / 60)
    assert not any("over 0.5 s" in decision.reason for decision in made)
    assert life.wanted == {"cart": 3}


def test_half_as_much_again_is_answered_within_seconds():
    life = one()
    life.run(120, lambda *_: 7.0)
    assert life.wanted == {"cart": 4}
    (made,) = life.run(3.0, lambda *_: 12.0)
    assert "over 6 s" in made.reason
    life.run(7.0, lambda *_: 12.0)
    assert life.wanted == {"cart": 6}


def test_after_a_panic_it_stays_up_for_a_stable_window_and_then_goes_down_by_halves():
    life = one()
    life.run(2, lambda *_: 32.0)
    assert life.wanted == {"cart": 16}
    assert life.run(STABLE_SECONDS - 5, lambda *_: 1.0) == []
    made = life.run(120, lambda *_: 1.0)
    assert [decision.replicas for decision in made] == [8, 4, 2, 1]


def test_a_supervisor_that_has_just_come_takes_nothing_away_before_it_has_seen_a_whole_window():
    life = one()
    life.wanted = {"cart": 6}
    life.run(STABLE_SECONDS - 0.5, lambda *_: 0.1)
    assert life.wanted == {"cart": 6}
    life.run(10.0, lambda *_: 0.1)
    assert life.wanted["cart"] < 6
    # Up, it goes at once.
    life = one()
    life.run(1.0, lambda *_: 20.0)
    assert life.wanted == {"cart": 10}


def test_after_a_gap_the_window_begins_anew():
    life = one()
    life.wanted = {"cart": 6}
    life.run(STABLE_SECONDS - 5.0, lambda *_: 12.0)
    life.now += 40.0  # stopped meanwhile, with the load that it had
    life.run(STABLE_SECONDS - 0.5, lambda *_: 0.1)
    assert life.wanted == {"cart": 6}


def test_a_load_at_the_border_of_two_counts_does_not_swing():
    life = one()
    life.run(200, lambda *_: 4.05)
    assert life.wanted == {"cart": 3}
    # 2 replicas are meant for 4: to go down needs a tenth less.
    assert life.run(300, lambda *_: 3.95) == []
    assert [d.replicas for d in life.run(200, lambda *_: 3.5)] == [2]


@pytest.mark.parametrize(
    ("cores", "weights", "counts"), [(4, (1, 1), (3, 3)), (6, (1, 2), (3, 5)), (100, (1, 1), (9, 9))]
)
def test_scarce_cores_are_shared_by_weight(cores: int, weights: tuple[float, float], counts: tuple[int, int]):
    life = Life(
        {name: ScalingPolicy(1, 9, target=2.0, weight=weight) for name, weight in zip("ab", weights, strict=True)},
        cores,
    )
    life.run(3, lambda *_: 40.0)
    assert tuple(life.wanted.values()) == counts
    if cores < 16:
        assert f"but the {cores} cores are shared" in life.decisions[-1][1].reason


def test_who_only_waits_for_another_is_not_scaled_and_the_other_is_named():
    life = one()
    assert life.run(3, lambda *_: Demand(20.0, 1, {"orders": 19.0, "mail": 1.0})) == []
    (held,) = life.scaler.news()
    assert (held.set, held.by, held.over) == ("cart", "orders", False)
    assert held.reason.startswith("not scaled to 10: 95% of its calls wait for orders")
    life.run(3, lambda *_: Demand(20.0, 1, {"orders": 8.0}))
    assert life.wanted == {"cart": 10}


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
    assert said in held.reason


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
    assert over.reason == "it has not waited for 300 s; it was held for 70 s in 70 s, by stock for 60 s"


def test_whoever_stops_to_be_scaled_is_held_no_more():
    life = one()
    life.run(3, lambda *_: Demand(20.0, 1, {"orders": 19.0}))
    life.policies = {}
    life.run(1, lambda *_: 0.0)
    begun, over = life.scaler.news()
    assert not begun.over
    assert over.over
    assert "nothing scales it any more" in over.reason


def test_it_sleeps_when_nothing_comes_and_wakes_at_once():
    life = one(minimum=0)
    made = life.run(120, lambda *_: 0.0)
    assert [(d.replicas, d.reason) for d in made] == [(0, "no calls for 5 s")]
    assert life.run(60, lambda *_: 0.0) == []
    made = life.run(0.2, lambda *_: Demand(0.0, 0, wake=True))
    assert (made[0].replicas, made[0].reason) == (1, "a call came to it while it slept")


def test_no_neighbour_keeps_a_sleeper_asleep():
    life = Life({"busy": ScalingPolicy(1, 9, target=1.0), "rare": ScalingPolicy(0, 3, idle_seconds=1.0)}, cores=2)
    life.run(10, lambda name, _: 50.0 if name == "busy" else 0.0)
    assert life.wanted == {"busy": 3, "rare": 0}
    life.run(1, lambda name, _: 50.0 if name == "busy" else Demand(1.0, 0, wake=True))
    assert life.wanted == {"busy": 3, "rare": 1}


def test_bounds_that_were_altered_are_kept_at_once():
    life = one()
    life.policies["cart"] = ScalingPolicy(4, 6, target=2.0)
    (made,) = life.run(0.1, lambda *_: 1.0)
    assert (made.replicas, made.previous) == (4, 1)


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


def test_what_a_rollout_brings_is_kept_until_its_load_was_seen_for_a_while():
    life = Life({"cart": ScalingPolicy(1, 20, target=2.0, group="rollout", least=8)})
    life.wanted["cart"] = 3
    (made,) = life.run(30.0, lambda *_: 0.0)
    assert (made.replicas, life.wanted) == (8, {"cart": 8})
    assert "about to come" in made.reason
    # The rollout is over, and its first heartbeats say nothing of the load that has come.
    life.policies["cart"] = ScalingPolicy(1, 20, target=2.0)
    assert not life.run(STABLE_SECONDS, lambda _, seconds: 14.0 if seconds > 1.0 else 0.0)
    life.run(2 * STABLE_SECONDS, lambda *_: 2.0)
    assert life.wanted == {"cart": 2}


def test_what_a_rollout_brings_takes_no_more_than_the_cores():
    policies = {name: ScalingPolicy(1, 20, target=2.0, group="rollout", least=8) for name in ("cart", "orders")}
    life = Life(policies, cores=6)
    life.run(5.0, lambda *_: 0.0)
    assert sorted(life.wanted.values()) == [4, 4]

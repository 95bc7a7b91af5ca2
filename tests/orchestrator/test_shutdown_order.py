"""Services stop from the outside in."""

from hypothesis import given
from hypothesis import strategies as st

from fissile.orchestrator.desired import Desired, LiveRelease, Rollout
from fissile.orchestrator.replica import Observed
from fissile.orchestrator.shutdown_order import merged, stop_waves, stopping_order


def test_callers_stop_before_those_they_call():
    services = {"db": ["Db"], "cart": ["Cart"], "auth": ["Auth"], "web": ["Web", "Admin"]}
    references = {"Web": {"Cart", "Auth"}, "Cart": {"Db"}, "Auth": {"Db"}, "Admin": {"Web"}}
    assert stop_waves(services, references) == [("web",), ("cart", "auth"), ("db",)]


def test_a_circle_stops_in_one_wave_after_its_callers_and_before_its_callees():
    services = {"a": ["A"], "b": ["B"], "outside": ["O"], "inside": ["I"]}
    references = {"O": {"A"}, "A": {"B"}, "B": {"A", "I"}}
    assert stop_waves(services, references) == [("outside",), ("a", "b"), ("inside",)]


@st.composite
def applications(draw: st.DrawFn):
    count = draw(st.integers(1, 7))
    edges = draw(st.sets(st.tuples(st.integers(0, count - 1), st.integers(0, count - 1))))
    services = {f"s{i}": [f"C{i}"] for i in range(count)}
    return services, {f"C{i}": {f"C{b}" for a, b in edges if a == i} for i in range(count)}


@given(applications())
def test_every_service_stops_once_and_no_callee_before_its_caller(application):
    services, references = application
    waves = stop_waves(services, references)
    assert sorted(name for wave in waves for name in wave) == sorted(services)
    when = {name: index for index, wave in enumerate(waves) for name in wave}
    calls = {f"s{c[1:]}": {f"s{t[1:]}" for t in targets} for c, targets in references.items()}

    def reaches(start: str, goal: str) -> bool:
        seen, todo = set(), [start]
        while todo:
            for target in calls[todo.pop()] - seen:
                seen.add(target)
                todo.append(target)
        return goal in seen

    for caller, targets in calls.items():
        for target in targets:
            if not reaches(target, caller):  # not in a circle
                assert when[caller] < when[target]
            else:
                assert when[caller] == when[target]


OLD = LiveRelease("a", {"web": "web@a", "cart": "cart@a", "db": "db"}, (("web",), ("cart",), ("db",)))
NEW = LiveRelease("b", {"web": "web@b", "auth": "auth@b", "db": "db"}, (("web",), ("auth",), ("db",)))


def test_what_two_releases_share_outlives_its_callers_in_both():
    desired = Desired(current=OLD, rollout=Rollout(1, NEW, {}))
    assert stopping_order(desired, Observed()) == [("web@a", "web@b"), ("cart@a", "auth@b"), ("db",)]


def test_what_no_live_release_has_stops_last():
    observed = Observed()
    observed.begin("web@gone", 0, 1, "gone", 0.0)
    observed.begin("db", 0, 1, "a", 0.0)
    assert stopping_order(Desired(current=OLD), observed) == [("web@a",), ("cart@a",), ("db",), ("web@gone",)]
    assert stopping_order(Desired(), Observed()) == []


def test_a_callee_that_is_a_caller_elsewhere_waits_for_its_own():
    assert merged([[["a"], ["b"], ["c"]], [["a"], ["c"]], [["d"], ["a"]]]) == [("d",), ("a",), ("b",), ("c",)]


places = st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 3))


@given(st.lists(places, max_size=3))
def test_merged_orders_have_each_name_once_and_keep_to_all_that_agree(orders: list[dict[str, int]]):
    waves = merged([[[name for name in sorted(one) if one[name] == n] for n in range(4)] for one in orders])
    when = {name: number for number, wave in enumerate(waves) for name in wave}
    assert sorted(name for wave in waves for name in wave) == sorted({name for one in orders for name in one})
    before = {(a, b) for one in orders for a in one for b in one if one[a] < one[b]}
    if all(not _reaches(before, name, name) for name in when):
        assert all(when[a] < when[b] for a, b in before)


def _reaches(before: set[tuple[str, str]], start: str, goal: str) -> bool:
    todo, seen = [start], set[str]()
    while todo:
        here = todo.pop()
        new = {other for one, other in before if one == here} - seen
        seen |= new
        todo.extend(new)
    return goal in seen

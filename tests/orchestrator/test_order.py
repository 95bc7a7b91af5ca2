"""Services stop from the outside in."""

from hypothesis import given
from hypothesis import strategies as st

from fissile.orchestrator.order import stop_waves


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

"""A timeline fails where something is missing, wrong, late or not expected, and shows both side by side."""

import pytest

from tests.orchestrator.timeline import Timeline, service


@pytest.mark.parametrize(
    "lines",
    [
        (),
        ("start cart.1",),
        ("start cart.1", "start cart.2", "start cart.3"),
        ("start cart.2", "start cart.1"),
        ("start cart.1", "kill cart.2"),
        ("start cart.1", "start cart.2: … slot 7 …"),
        ("start cart.1", "0 start cart.2"),
        ("start cart.1", "start cart.2: 3 replicas"),
    ],
)
def test_what_is_not_so_fails(lines: tuple[str, ...]):
    with pytest.raises(AssertionError, match=r"(?s)at 2:.*≠ .*so far:.*2 start cart.1: 3 replicas wanted"):
        Timeline(cart=service()).at(0).started().at(2).scale("cart", 3).expect(*lines)


def test_what_is_so_does_not():
    Timeline(cart=service(2)).at(0).expect("start cart.0", "0 start cart.1: 2 replicas…slot 1 is empty").expect()


def test_who_is_not_there_is_named():
    with pytest.raises(AssertionError, match=r"no cart.7 among \['cart.0'\]"):
        Timeline(cart=service()).at(0).ready("cart.0").dies("cart.7")

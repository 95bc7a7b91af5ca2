"""Medians, quantiles and ratios of rounds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fissile.bench.stats import median, quantile, ratio

numbers = st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=50)


def test_the_median_of_an_even_count_is_between_both_middle_values():
    assert median([4.0, 1.0, 3.0, 2.0]) == 2.5


@given(numbers)
def test_the_median_is_the_half_quantile(values: list[float]):
    assert quantile(values, 0.5) == pytest.approx(median(values), rel=1e-9, abs=1e-6)


@given(numbers)
def test_the_ends_of_the_quantiles_are_least_and_greatest(values: list[float]):
    assert quantile(values, 0.0) == min(values)
    assert quantile(values, 1.0) == max(values)


def test_one_disturbed_round_does_not_move_a_ratio():
    assert ratio([20.0, 20.0, 900.0], [2.0, 2.0, 2.0]) == 10.0


def test_a_slow_machine_slows_both_sides_of_a_round():
    assert ratio([10.0, 100.0, 1000.0], [1.0, 10.0, 100.0]) == 10.0


@pytest.mark.parametrize("values", [[], [1.0]])
def test_what_cannot_be_compared_is_refused(values: list[float]):
    with pytest.raises(ValueError, match=r"rounds|nothing"):
        ratio(values, [*values, 1.0] if values else [])


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_a_share_outside_of_the_whole_is_refused(share: float):
    with pytest.raises(ValueError, match="outside"):
        quantile([1.0], share)

"""What is remembered of calls from outside, and for how long."""

import pytest

from fissile.releases.callers import DAY, Called, heard, interrupted, outside, recent, span, watched


def test_absence_counts_from_when_it_was_watched_for():
    calls = watched({}, ["A.x"], 10.0)
    assert calls == {"A.x": Called(10.0)}
    calls = watched(calls, ["A.x", "A.y"], 20.0)
    assert calls == {"A.x": Called(10.0), "A.y": Called(20.0)}
    assert outside(calls["A.x"], 10.0 + DAY - 1.0)[0]
    assert not outside(calls["A.x"], 10.0 + DAY)[0]
    assert outside(calls["A.y"], 10.0 + DAY)[0]


def test_a_call_is_remembered_whatever_becomes_of_the_method():
    calls = heard(watched({}, ["A.x", "A.y"], 10.0), ["A.x"], 50.0)
    assert calls == {"A.x": Called(10.0, 50.0), "A.y": Called(10.0)}
    calls = watched(calls, ["A.z"], 60.0)  # renamed
    assert calls == {"A.x": Called(None, 50.0), "A.z": Called(60.0)}
    calls = watched(calls, ["A.x"], 70.0)  # and back again
    assert calls == {"A.x": Called(70.0, 50.0)}
    assert recent(calls["A.x"], 50.0 + 30 * DAY)
    assert not recent(calls["A.x"], 50.1 + 30 * DAY)
    assert watched(calls, [], 51.0 + 30 * DAY) == {}
    assert heard({}, ["A.late"], 5.0) == {"A.late": Called(5.0, 5.0)}


def test_a_time_in_which_nobody_watched_is_no_absence():
    calls = interrupted({"A.x": Called(10.0, 20.0), "A.y": Called(10.0)})
    assert outside(calls["A.y"], 9 * DAY)[0]
    assert watched(calls, ["A.x", "A.y"], 9 * DAY) == {"A.x": Called(9 * DAY, 20.0), "A.y": Called(9 * DAY)}


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.0, "less than a minute"),
        (61.0, "1 minute"),
        (7200.0, "2 hours"),
        (DAY, "24 hours"),
        (2 * DAY - 1.0, "47 hours"),
        (2 * DAY, "2 days"),
    ],
)
def test_times_in_words(seconds: float, words: str):
    assert span(seconds) == words

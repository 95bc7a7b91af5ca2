"""Figures, their goals, and how they are shown."""

import json

import pytest

from fissile.bench.report import as_json, as_table, figure, number, rewritten


@pytest.mark.parametrize(
    ("value", "goal", "holds"),
    [
        (25.0, ">= 25", True),
        (24.9, ">= 25", False),
        (0.16, "<= 0.16", True),
        (0.17, "<= 0.16", False),
        (1.0, "", None),
    ],
)
def test_a_goal_holds_at_its_limit_and_not_beyond(value: float, goal: str, holds: bool | None):
    assert figure("x", value, "times", goal).holds is holds


@pytest.mark.parametrize("goal", ["25", "> 25", ">= many", "<= -1"])
def test_a_goal_that_nobody_can_check_is_refused(goal: str):
    with pytest.raises(ValueError, match="goal"):
        figure("x", 1.0, "times", goal)


def test_the_json_is_a_list_of_objects_with_the_five_keys():
    decoded = json.loads(as_json([figure("a", 30.0, "times", ">= 25"), figure("b", 2.0, "µs")]))
    assert decoded == [
        {"name": "a", "value": 30.0, "unit": "times", "goal": ">= 25", "holds": True},
        {"name": "b", "value": 2.0, "unit": "µs", "goal": "", "holds": None},
    ]


def test_a_goal_that_is_missed_stands_out_in_the_table():
    table = as_table([figure("fast", 30.0, "times", ">= 25"), figure("slow", 3.0, "times", ">= 25")])
    rows = table.splitlines()
    assert len({len(row) for row in rows}) == 1
    assert rows[2].rstrip(" |").endswith("yes")
    assert rows[3].rstrip(" |").endswith("NO")


@pytest.mark.parametrize(
    ("value", "text"), [(12345.6, "12,346"), (99.94, "99.9"), (1.239, "1.24"), (0.1234, "0.123"), (0.0, "0.000")]
)
def test_numbers_have_about_three_digits(value: float, text: str):
    assert number(value) == text


def test_a_document_gets_new_figures_and_keeps_its_prose():
    old = "prose\n<!-- figures -->\nold\n<!-- /figures -->\nmore\n<!-- other -->\n\n<!-- /other -->\n"
    new = rewritten(old, {"figures": "new\nones", "other": "x"})
    assert new == ("prose\n<!-- figures -->\nnew\nones\n<!-- /figures -->\nmore\n<!-- other -->\nx\n<!-- /other -->\n")
    assert rewritten(new, {"figures": "new\nones", "other": "x"}) == new


@pytest.mark.parametrize("document", ["prose", "<!-- figures -->\nno end", "no begin\n<!-- /figures -->"])
def test_figures_that_have_no_place_are_a_mistake(document: str):
    with pytest.raises(ValueError, match="figures"):
        rewritten(document, {"figures": "new"})

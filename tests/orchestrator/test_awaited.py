"""What a start waits for, in words."""

from fissile.orchestrator.awaited import NAMED_MAX, Awaited, awaited
from fissile.orchestrator.reasons import CannotStart, Said


def test_it_names_what_is_missing_and_nothing_else():
    there = Awaited("pages", 1, 1)
    assert awaited([]) == awaited([there]) == ""
    assert awaited([there, Awaited("back", 0, 1)]) == "starting back"
    assert awaited([Awaited("back", 1, 3)]) == "starting back 1/3"
    assert awaited([Awaited("back", 0, 0)]) == ""


def test_it_says_for_what():
    assert awaited([Awaited("back", 1, 1, held=True)]) == "migrating back"
    assert awaited([Awaited("web", 0, 1, program="answers at /health")]) == "waiting until web answers at /health"
    again = awaited([Awaited("back", 0, 1, trouble=Said("it exited with code 3 before it was ready"))])
    assert again == "starting back; the last attempt failed: it exited with code 3 before it was ready"
    waits = [Awaited("back", 0, 1, after=("store", "cache")), Awaited("store", 0, 1)]
    assert awaited(waits) == "starting store; back waits for store, cache"
    told = CannotStart("A has 2 mistakes:\n  - one\n  - two\n  → mend them", advice=True)
    assert awaited([Awaited("app", 0, 1, trouble=told)]) == "starting app; the last attempt failed: A has 2 mistakes"


def test_of_many_some_are_named():
    many = [Awaited(f"service{number}", 0, 1) for number in range(NAMED_MAX + 2)]
    assert awaited(many).endswith("; and 2 more")
    assert awaited(many).count("starting") == NAMED_MAX

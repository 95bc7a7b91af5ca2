"""Which entries `fissile history` shows."""

from fissile.api.schema import Entry
from fissile.cli.history import newest_shown


def journal(*whats: str) -> list[Entry]:
    return [Entry("observation", "", what, id=number) for number, what in enumerate(whats)]


def test_as_many_are_shown_as_were_asked_for_though_some_are_no_news():
    entries = journal("A", "B", "AcknowledgeRoutes", "RetireSets", "DrainSets", "AcknowledgeRoutes", "C")
    for limit, shown in ((1, "C"), (2, "BC"), (3, "ABC"), (9, "ABC")):
        found = newest_shown(lambda wanted: entries[-wanted:], limit)
        assert "".join(one.what for one in found) == shown


def test_nothing_is_shown_where_nothing_happened():
    assert newest_shown(lambda wanted: [], 5) == []

"""What is said of calls from outside, and to whom."""

from fissile.runtime.outside import Outside


def test_a_call_is_news_until_it_is_told():
    outside = Outside()
    assert outside.news() == ()
    outside.called.add("A.x")
    assert outside.news() == ("A.x",)
    outside.called.add("A.y")  # while that is under way
    assert outside.news() == ("A.x", "A.y")  # it did not arrive
    outside.called.add("A.z")
    outside.told(("A.x", "A.y"))
    assert outside.news() == ("A.z",)
    outside.told(("A.z",))
    assert outside.news() == ()


def test_the_next_supervisor_hears_all_of_it():
    outside = Outside()
    outside.called.add("A.x")
    outside.told(outside.news())
    outside.again()
    assert outside.news() == ("A.x",)


def test_a_report_that_was_under_way_while_another_supervisor_came_takes_nothing_from_it():
    outside = Outside()
    outside.called.add("A.x")
    outside.told(outside.news())
    under_way = outside.news()
    outside.again()
    outside.told(under_way)
    assert outside.news() == ("A.x",)

"""Whether a process hangs is told by the looks at which it owed an answer."""

from fissile.orchestrator.hang_detector import HangDetector, Look


def test_one_that_answers_is_asked_again():
    vigil = HangDetector()
    for number in (1, 2, 3):
        assert vigil.look(2) is Look.ASK
        assert vigil.asked == number
        vigil.answer(number)


def test_one_that_owes_an_answer_for_so_many_looks_hangs():
    vigil = HangDetector()
    assert [vigil.look(3) for _ in range(4)] == [Look.ASK, Look.WAIT, Look.WAIT, Look.HUNG]


def test_an_answer_starts_the_count_anew():
    vigil = HangDetector()
    vigil.look(3)
    assert [vigil.look(3), vigil.look(3)] == [Look.WAIT, Look.WAIT]
    vigil.answer(1)
    assert [vigil.look(3) for _ in range(3)] == [Look.ASK, Look.WAIT, Look.WAIT]


def test_patience_may_grow_while_it_is_waited_for():
    vigil = HangDetector()
    vigil.look(2)
    assert vigil.look(2) is Look.WAIT
    assert vigil.look(60) is Look.WAIT
    assert vigil.look(3) is Look.HUNG


def test_an_answer_to_nothing_that_was_asked_is_none():
    vigil = HangDetector()
    vigil.answer(7)
    vigil.look(2)
    assert vigil.look(2) is Look.WAIT
    assert vigil.look(2) is Look.HUNG

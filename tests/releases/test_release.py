"""What is new in a release, and whom it breaks."""

from typing import Any

import msgspec
import pytest

from fissile.component.contract import Contracts, MethodContract
from fissile.releases.callers import DAY, Called
from fissile.releases.release import (
    ContractBreak,
    Difference,
    Release,
    ServiceChange,
    Surroundings,
    build_of,
    difference,
    parted,
)

SPLIT = {"front": ("Front",), "middle": ("Middle",), "back": ("Back",)}
WHOLE = {"app": ("Front", "Middle", "Back")}
DUO = {"edge": ("Front",), "rest": ("Middle", "Back")}
REFERENCES = {"Front": ("Middle",), "Middle": ("Back",), "Back": ()}


def contract(result: str, fingerprint: str = "") -> MethodContract:
    return MethodContract(fingerprint or result, [], result, False, {})


INTEGERS: Contracts = {"Back.count": contract("int")}
STRINGS: Contracts = {"Back.count": contract("str")}


def release(contracts: Contracts = INTEGERS, services: Any = SPLIT, **more: Any) -> Release:
    """Each service's build is of the contracts of its components."""
    builds = {
        service: build_of({f"{label} of {service}": one.fingerprint for label, one in contracts.items()})
        for service in services
    }
    return Release("app", "some", services, builds, contracts, more.pop("references", REFERENCES), **more)


def broken(earlier: Release, later: Release) -> list[tuple[str, tuple[str, ...]]]:
    return [(one.found.method, one.callers) for one in difference(earlier, later).breaks]


def test_the_same_release_changes_nothing():
    assert difference(release(), release()) == Difference((), ("front", "middle", "back"), ())


def test_what_a_deploy_does_to_each_service():
    found = difference(release(), release(STRINGS, {"front": (), "other": ()}))
    reasons = ("Back.count of front changed",)
    assert found.changes == (
        ServiceChange("front", "changed", reasons),
        ServiceChange("other", "new"),
        ServiceChange("middle", "gone"),
        ServiceChange("back", "gone"),
    )


def test_a_break_is_told_with_the_callers_of_the_earlier_release():
    later = release(STRINGS, references={"Front": ("Back",), "Middle": ("Back",), "Back": ()})
    assert broken(release(), later) == [("Back.count", ("Middle",))]
    assert broken(release(), release(STRINGS, references={})) == [("Back.count", ("Middle",))]


def test_what_nobody_calls_breaks_nobody():
    assert broken(release(references={"Front": ("Middle",)}), release(STRINGS)) == []


@pytest.mark.parametrize(
    ("before", "after", "breaks"),
    [
        (WHOLE, WHOLE, False),
        (DUO, DUO, False),
        (SPLIT, SPLIT, True),
        (WHOLE, SPLIT, True),
        (SPLIT, WHOLE, True),
        (WHOLE, DUO, False),
    ],
)
def test_a_call_within_a_service_never_meets_another_release(before: Any, after: Any, breaks: bool):
    found = broken(release(services=before), release(STRINGS, after))
    assert found == ([("Back.count", ("Middle",))] if breaks else [])


def test_a_callee_that_is_gone_breaks_its_callers_in_other_services():
    later = release({}, {"front": ("Front",), "middle": ("Middle",)})
    assert broken(release(), later) == [("Back.count", ("Middle",))]
    assert broken(release(services=WHOLE), release({}, {"app": ("Front", "Middle")})) == []


def test_programs_are_callers_by_the_name_of_their_service():
    services = {"app": ("Front", "Middle", "Back"), "program": ()}
    earlier = release(services=services, programs={"program": ("Back",)})
    assert broken(earlier, release(STRINGS, services)) == [("Back.count", ("Middle", "program"))]
    alone = release(services=services, references={}, programs={"program": ("Back",)})
    assert broken(alone, release(STRINGS, services)) == [("Back.count", ("program",))]
    elsewhere = release(services=services, references={}, programs={"program": ("Front",)})
    assert broken(elsewhere, release(STRINGS, services)) == []


def test_releases_survive_being_written_down_also_those_without_programs():
    for one in (release(), release(programs={"program": ("Back",)})):
        assert msgspec.json.decode(msgspec.json.encode(one), type=Release) == one
    older = msgspec.to_builtins(release())
    del older["programs"]
    assert msgspec.convert(older, Release) == release()


NOW = 100 * DAY
QUIET = {"Back.count": Called(NOW - 3 * DAY)}


def judged(earlier: Release, later: Release, **around: Any) -> ContractBreak | None:
    """The one break there is."""
    found = difference(earlier, later, Surroundings(**{"calls": QUIET, "now": NOW, **around})).breaks
    assert len(found) <= 1
    return found[0] if found else None


def test_callers_that_are_replaced_with_it_cannot_meet_a_break():
    found = judged(release(), release(STRINGS))
    assert found is not None
    assert found.reasons == ()
    assert found.note == "Middle is replaced with it; not called over HTTP/JSON in 3 days"
    both = {"Front": ("Middle", "Back"), "Middle": ("Back",), "Back": ()}
    found = judged(release(references=both), release({}, references=both))
    assert found is not None
    assert found.note.startswith("Front and Middle are replaced with it")
    whole = difference(release(), release(STRINGS), Surroundings(QUIET, now=NOW))
    assert whole.noted == whole.breaks
    assert not whole.refused


@pytest.mark.parametrize(
    ("called", "words"),
    [
        (None, "were not watched"),
        (Called(None), "were not watched"),
        (Called(NOW - 3600.0), "have been watched for 1 hour; 24 hours are needed"),
        (Called(NOW - DAY + 1.0), "have been watched for 23 hours; 24 hours are needed"),
        (Called(NOW + 3600.0), "have been watched for less than a minute"),  # the clock was set back
        (Called(NOW - 60 * DAY, NOW - 2 * 3600.0), "it was called over HTTP/JSON 2 hours ago"),
        (Called(NOW - 60 * DAY, NOW - 29.9 * DAY), "it was called over HTTP/JSON 29 days ago"),
        (Called(NOW - 60 * DAY, NOW + 3600.0), "it was called over HTTP/JSON less than a minute ago"),
        (Called(NOW - 60 * DAY, NOW - 31 * DAY), ""),
        (Called(NOW - DAY), ""),
    ],
)
def test_who_calls_from_outside_may_meet_it(called: Called | None, words: str):
    found = judged(release(), release(STRINGS), calls={} if called is None else {"Back.count": called})
    assert found is not None
    assert words in " ".join(found.reasons)
    assert bool(found.reasons) == bool(words)


def test_what_is_called_from_outside_alone_breaks_too():
    alone = release(references={})
    assert judged(alone, release(STRINGS)) is None
    assert judged(alone, release(STRINGS), calls={}) is None
    found = judged(alone, release(STRINGS), calls={"Back.count": Called(NOW - DAY, NOW - DAY)})
    assert found is not None
    assert found.callers == ()
    assert found.reasons == ("it was called over HTTP/JSON 24 hours ago",)
    # In one process as well: the door is the same.
    whole = judged(release(services=WHOLE), release({}, WHOLE), calls={"Back.count": Called(NOW, NOW)})
    assert whole is not None
    assert whole.reasons


@pytest.mark.parametrize("service", ["middle", "back"])
def test_what_is_replaced_in_place_meets_requests_of_both(service: str):
    found = judged(release(), release(STRINGS), in_place=frozenset({service}))
    assert found is not None
    assert found.reasons == (f"{service} cannot run twice at once, so requests of both releases meet it",)
    assert judged(release(), release(STRINGS), in_place=frozenset({"front"})) == judged(release(), release(STRINGS))


def test_a_program_belongs_to_no_release():
    services = {**SPLIT, "program": ()}
    found = judged(release(services=services, programs={"program": ("Back",)}), release(STRINGS, services))
    assert found is not None
    assert found.reasons == ("program is a program, and its calls belong to no release",)


def test_a_caller_that_stays_meets_it():
    later = release(STRINGS)
    later = msgspec.structs.replace(later, builds={**later.builds, "middle": release().builds["middle"]})
    found = judged(release(), later)
    assert found is not None
    assert found.reasons == ("middle stays as it is, and calls it",)


@pytest.mark.parametrize(
    ("before", "after", "components"),
    [
        (WHOLE, SPLIT, {"Middle", "Back"}),
        (WHOLE, DUO, {"Middle"}),
        (DUO, SPLIT, {"Back"}),
        (SPLIT, WHOLE, set()),
        (SPLIT, DUO, set()),
        (WHOLE, WHOLE, set()),
    ],
)
def test_which_components_a_split_parts_from_a_caller(before: Any, after: Any, components: set[str]):
    assert parted(release(services=before), release(services=after)) == components

"""What is new in a release, and whom it breaks."""

from typing import Any

import msgspec
import pytest

from fissile.component.contract import Contracts, MethodContract
from fissile.orchestrator.release import Difference, Release, ServiceChange, build_of, difference, parted

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

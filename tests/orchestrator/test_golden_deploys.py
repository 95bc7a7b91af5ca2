"""What a deploy does is what it was when the supervisor still decided it: recorded from it, over its own tests.

golden_deploys.msgpack.gz has, by decision, what was given then, and what came of it.
"""

import gzip
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fissile.errors import ConfigError, FissileError
from fissile.orchestrator.awaited import cannot_start, missing
from fissile.orchestrator.deploy_rules import (
    DeployOrder,
    Rollback,
    back_to,
    changed_specs,
    check_contracts,
    check_expected,
    check_order,
    deploy_warnings,
    in_place,
    live_release,
    newest_release,
    rescalings,
    rollout_to,
    set_spec,
    sets_of,
    split_warnings,
    starting_order,
)
from fissile.orchestrator.desired import Desired, DesiredSet, LiveRelease, Rollout
from fissile.orchestrator.reasons import Said
from fissile.orchestrator.replica import Observed
from fissile.orchestrator.spec import ReleaseSpec
from fissile.releases.release import Difference, Release
from fissile.runtime.control import WireDifference
from tests.orchestrator.golden_reasons import typed

GOLDEN: dict[str, list[dict[str, Any]]] = msgspec.msgpack.decode(
    gzip.decompress((Path(__file__).parent / "golden_deploys.msgpack.gz").read_bytes()), strict=False
)
GIVEN: dict[str, Any] = {
    "desired": Desired,
    "observed": Observed,
    "order": DeployOrder,
    "found": Difference,
    "seen": dict[str, list[WireDifference]],
    "wanted": dict[str, DesiredSet],
    "services": list[str],
}
RELEASES = ("release", "earlier", "later", "before", "after")


def recorded(kind: str, out: Any, *, whole: bool = False) -> list[tuple[dict[str, Any], Any]]:
    """What was given, as its types, and what came of it. whole: releases with all that belongs to them."""
    types = GIVEN | dict.fromkeys(RELEASES, Release if whole else ReleaseSpec)
    found: list[tuple[dict[str, Any], Any]] = []
    for one in GOLDEN[kind]:
        plain = {"release": str} if kind == "rollback" else {}
        given = {
            name: msgspec.convert(typed(value), (types | plain).get(name, Any), strict=False)
            for name, value in one["in"].items()
        }
        found.append((given, msgspec.convert(one["out"], out, strict=False)))
    return found


@pytest.mark.parametrize("kind", GOLDEN)
def test_there_are_several_of_each(kind: str):
    assert len(GOLDEN[kind]) > 1


def test_how_a_service_should_be():
    for given, want in recorded("wish", DesiredSet):
        assert set_spec(**given) == want


def test_the_sets_of_a_release_and_the_order_in_which_they_stop():
    for given, live in recorded("live", LiveRelease):
        release: ReleaseSpec = given["release"]
        assert sets_of(release.builds, release.services) == live.sets
        assert live_release(release) == live


def test_the_order_in_which_all_are_restarted():
    for given, order in recorded("order", list[str]):
        assert starting_order(**given) == order


def test_what_is_replaced_in_place():
    for given, services in recorded("in_place", list[str]):
        assert in_place(**given) == services


def test_the_mistakes_of_an_order():
    for given, mistake in recorded("order_checked", list[str] | None):
        assert _refusal(lambda given=given: check_order(**given)) == (mistake and ["ConfigError", *mistake])


def test_what_callers_could_not_live_with():
    for given, refusal in recorded("refused", list[str] | None):

        def look(given: dict[str, Any] = given) -> None:
            check_expected(given["order"], given["earlier"].name)
            check_contracts(**given)

        assert _refusal(look) == refusal


def _refusal(look: Any) -> list[str] | None:
    try:
        look()
    except FissileError as error:
        return [type(error).__name__, error.message, error.remedy]
    return None


def test_what_is_warned_of():
    for given, told in recorded("warnings", list[str]):
        assert [*deploy_warnings(**given)] == told


def test_what_would_be_different_across_a_wire():
    for given, told in recorded("split", list[str], whole=True):
        assert [*split_warnings(**given)] == told


def test_what_a_deploy_is_compared_with():
    for given, name in recorded("newest", str):
        assert newest_release(**given) == name


def test_where_a_rollback_goes():
    for given, to in recorded("rollback", Rollback | None):
        if to is not None:
            assert back_to(**given) == to
        else:
            with pytest.raises(ConfigError, match="there is no earlier release"):
                back_to(**given)


def test_how_the_sets_of_a_later_release_should_be():
    for given, wanted in recorded("wishes", dict[str, DesiredSet]):
        assert changed_specs(**given) == wanted


def test_the_rollout_that_an_order_asks_for():
    for given, rollout in recorded("rollout", Rollout):
        assert rollout_to(**given) == rollout


def test_what_other_settings_say_of_replica_counts():
    for given, acts in recorded("rescalings", list[dict[str, Any]]):
        assert msgspec.to_builtins(rescalings(**given)) == acts


def test_which_set_is_meant_by_a_service():
    for given, name in recorded("current", str | None):
        if name is None:
            with pytest.raises(KeyError):
                given["desired"].set_of(given["service"])
        else:
            assert given["desired"].set_of(given["service"]) == name


def test_the_sets_of_a_service():
    for given, names in recorded("sets", tuple[str, ...]):
        assert given["desired"].sets_of(given["service"]) == names


def test_which_release_gets_most_requests():
    for given, name in recorded("serving", str):
        assert given["desired"].main() == name


def test_who_is_missing_at_a_start_and_who_cannot_start():
    for given, (names, failure) in recorded("start", tuple[list[str], tuple[str, int, str] | None]):
        desired, observed = given["desired"], given["observed"]
        assert missing(given["sets"], desired, observed, given["held"]) == names
        failed = cannot_start(names, observed, {name: Said(text) for name, text in given["failed"].items()})
        assert (failed and (*failed[:2], failed[2].trouble)) == failure

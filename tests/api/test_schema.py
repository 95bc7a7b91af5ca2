"""The schema has the fields of what it shows, and takes what people send within its limits alone."""

from typing import Any, get_args

import msgspec
import pytest

from fissile.api import schema
from fissile.api.operation import translated
from fissile.api.table import OPERATIONS
from fissile.component import contract
from fissile.journal import journal
from fissile.orchestrator import deploy_rules
from fissile.releases import callers, release
from fissile.runtime import control
from fissile.supervisor import deployer, outcomes, restarter, status

# What the supervisor has, and what the API shows of it.
TWINS: tuple[tuple[type[Any], type[Any]], ...] = (
    (journal.Entry, schema.Entry),
    (deploy_rules.DeployOrder, schema.DeployOrder),
    (callers.Called, schema.Called),
    (contract.Break, schema.Break),
    (release.ContractBreak, schema.ContractBreak),
    (release.ServiceChange, schema.ServiceChange),
    (release.Difference, schema.Difference),
    (deployer.Deploy, schema.Deploy),
    (outcomes.Outcome, schema.Outcome),
    (restarter.Restarted, schema.Restarted),
    (control.WireDifference, schema.WireDifference),
    (status.ReplicaStatus, schema.ReplicaStatus),
    (status.Scale, schema.Scale),
    (status.ServiceStatus, schema.ServiceStatus),
    (status.SupervisorProcess, schema.SupervisorProcess),
    (status.RolloutStatus, schema.RolloutStatus),
    (status.RestartOrder, schema.RestartStatus),
    (status.SupervisorStatus, schema.SupervisorStatus),
)


def fields(kind: type[Any]) -> dict[str, Any]:
    return {one.name: one.default for one in msgspec.structs.fields(kind)}


@pytest.mark.parametrize(("inside", "shown"), TWINS, ids=lambda kind: kind.__qualname__)
def test_what_is_shown_has_all_fields_of_what_there_is(inside: type[Any], shown: type[Any]):
    assert fields(inside) == fields(shown)


def test_every_answer_that_shows_something_has_a_twin():
    known = {shown for _, shown in TWINS}
    answered = {one.answer for one in OPERATIONS.values()}
    answered |= {part for one in answered for part in get_args(one)}
    shown = {one for one in answered if getattr(one, "__module__", "") == schema.__name__}
    assert shown - known == {schema.Health, schema.ReleaseInfo, schema.Done}  # made for the API alone


def test_a_value_is_translated_with_all_that_it_holds():
    difference = release.Difference(
        (release.ServiceChange("cart", "changed", ("shop/cart.py",)),),
        ("web",),
        (
            release.ContractBreak(
                ("Web",), contract.Break("Cart.add", "parameter `id`", "is gone", "keep it"), ("why",)
            ),
        ),
    )
    shown = translated(deployer.Deploy(7, "later", "earlier", "microservices", difference), schema.Deploy)
    assert isinstance(shown.difference.breaks[0].found, schema.Break)
    assert shown.difference.refused == shown.difference.breaks
    assert msgspec.json.encode(shown.difference) == msgspec.json.encode(difference)


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        (schema.DeployOrder, {"who": "a\x1b[2J"}),
        (schema.DeployOrder, {"who": "a" * (schema.WHO_CHARACTERS_MAX + 1)}),
        (schema.RestartOrder, {"why": "a" * (schema.WHY_CHARACTERS_MAX + 1)}),
        (schema.RestartOrder, {"why": "a\x00"}),
        (schema.ScaleOrder, {"replicas": -1}),
        (schema.DecideOrder, {"rollout": 10**schema.DIGITS_MAX}),
        (schema.DownOrder, {"whom": "anna"}),
    ],
)
def test_an_order_beyond_its_limits_is_refused(kind: type[Any], given: dict[str, Any]):
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(given, kind)


def test_a_reason_may_have_lines():
    assert msgspec.convert({"why": "one\n\ttwo"}, schema.DownOrder).why == "one\n\ttwo"

"""A monolith is known to be splittable: what its calls would mean otherwise across a wire is seen before a split."""

import asyncio
from pathlib import Path

from supervised import Running, running, until

from fissile.api.operation import translated
from fissile.api.schema import SupervisorStatus
from fissile.cli.status import as_text
from fissile.orchestrator.deploy_rules import DeployOrder
from fissile.runtime.control import WireDifference
from fissile.supervisor.differences import DIFFERENCES_MAX, Differences
from fissile.supervisor.status import ServiceStatus

FOUND = "WireDifferenceFound"


def the_service(app: Running) -> ServiceStatus:
    (one,) = app.supervisor.status().services
    return one


def shown(app: Running) -> str:
    return as_text(translated(app.supervisor.status(), SupervisorStatus))


async def plan(app: Running, topology: str) -> tuple[str, ...]:
    return (await app.supervisor.deployer.deploy(DeployOrder(topology=topology, plan=True))).warnings


async def test_what_would_be_different_is_told_once_and_warned_of_before_a_split(folder: Path):
    async with running(folder, "monolith") as app:
        assert the_service(app).wire_differences == ()
        assert "across a wire" not in shown(app)
        for _ in range(3):
            assert await app.call("Pages.total_of_back") == 6
        (found,) = await until(lambda: the_service(app).wire_differences, "a report")
        assert found.method == "Back.total"
        assert "numbers" in found.what
        assert "list" in found.what
        assert "1 thing would be different across a wire" in as_text(
            translated(app.supervisor.status(), SupervisorStatus)
        )
        assert f"Back.total: {found.what}" in await plan(app, "microservices")
        assert f"Back.total: {found.what}" in await plan(app, "pair")
        assert await plan(app, "monolith") == ()
        entries = [e for e in app.supervisor.journal.history() if e.what == FOUND]
        assert [(e.service, e.reason) for e in entries] == [(the_service(app).name, f"Back.total: {found.what}")]
        await until(lambda: app.supervisor.journal.kept("differences"), "the journal")
        (folder / ".fissile" / "code").rmdir()  # the copies of all these plans are gone
    async with running(folder, "monolith") as app:  # the same build: what is known of it is known, and not news
        assert the_service(app).wire_differences == (found,)
        await app.call("Pages.total_of_back")
        await asyncio.sleep(1.5)
        assert len([e for e in app.supervisor.journal.history() if e.what == FOUND]) == 1


def test_no_more_than_can_be_read_is_kept():
    differences = Differences()
    many = [WireDifference(f"A.m{number}", "is other") for number in range(DIFFERENCES_MAX)]
    assert differences.add("a", "b1", [*many[:60], many[0]]) == many[:60]
    assert differences.add("a", "b1", [*many, WireDifference("A.more", "is other")]) == many[60:]
    assert differences.add("a", "b2", many[:1]) == many[:1]
    assert differences.of("a", "b1") == tuple(many)


def test_what_is_known_of_code_that_is_gone_is_forgotten():
    differences, other = Differences(), Differences()
    one = WireDifference("A.m", "is other")
    differences.add("a", "b1", [one])
    differences.add("a", "b2", [one])
    other.decode(differences.encode({"a@b2"}))
    assert (other.of("a", "b1"), other.of("a", "b2")) == ((), (one,))

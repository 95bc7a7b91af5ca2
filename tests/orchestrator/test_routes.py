"""Whom callers are told of, and when."""

from math import inf

from fissile.orchestrator.desired import DesiredSet
from fissile.orchestrator.replica import Observed, ReplicaEnded, ReplicaReady
from fissile.orchestrator.routes import RouteTable, routes

WANT = DesiredSet(2, 0, 4)


def test_those_that_are_ready_or_else_those_that_will_be():
    observed = Observed()
    service = observed.replica_set("cart")
    assert routes(DesiredSet(0, 0, 4), service) == (0,)
    assert routes(WANT, service) == (0, 1)
    first, second = (observed.begin("cart", slot, 1, "build", 0.0) for slot in (1, 3))
    assert routes(WANT, service) == (1, 3)
    observed.observe(second, ReplicaReady(), 1.0)
    assert routes(WANT, service) == (3,)
    observed.observe(first, ReplicaReady(), 1.0)
    assert routes(WANT, service) == (1, 3)
    observed.drain(first, 2.0)
    assert routes(WANT, service) == (3,)
    observed.end(second, "why", fault=True)
    assert routes(WANT, service) == (0, 1)
    observed.observe(second, ReplicaEnded("ended"), 3.0)
    assert routes(WANT, service) == (3,), "its slot gets a new one: calls wait there"


def test_a_table_tells_what_changed():
    table = RouteTable()
    assert table.update({"cart": ("a",), "orders": ("b",)}, (), 0.0) == {"cart", "orders"}
    assert table.update({"cart": ("a",), "orders": ("b", "c")}, (), 1.0) == {"orders"}
    assert table.update({"cart": ("a",), "orders": ("b", "c")}, (), 2.0) == set()
    assert table.due == inf


def test_after_an_adoption_others_keep_what_they_have_until_all_have_reported():
    table = RouteTable()
    table.take_over(10.0)
    assert table.update({"cart": ("a",), "orders": ("b",)}, {"cart"}, 8.0) == {"orders"}
    assert table.due == 10.0
    assert table.update({"cart": ("a",), "orders": ("b",)}, {"cart"}, 9.0) == set()
    assert table.update({"cart": ("a", "d"), "orders": ("b",)}, (), 9.5) == {"cart"}
    assert table.due == inf


def test_a_replica_that_never_reports_holds_nobody_up_for_long():
    table = RouteTable()
    table.take_over(10.0)
    assert table.update({"cart": ("a",)}, {"cart"}, 9.0) == set()
    assert table.update({"cart": ("a",)}, {"cart"}, 10.0) == {"cart"}


def test_nothing_is_told_when_all_is_stopped():
    table = RouteTable()
    table.close()
    assert table.update({"cart": ("a",)}, (), 5.0) == set()

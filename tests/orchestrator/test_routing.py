"""Who is told of whom, and when; who may call whom: timelines."""

from typing import Any

from fissile.orchestrator.routes import RouteTable
from fissile.orchestrator.routing import Door
from tests.orchestrator.timeline import Timeline, service


def told(*, only: str = "tell", **services: Any) -> Timeline:
    """What callers are told of an application, on a machine that does at once what it is told; it is second 1."""
    return Timeline(obedient=True, only=only, **services).at(1).started()


# -- whom calls go to ---------------------------------------------------------------------------------


def test_those_that_are_ready_and_else_those_that_will_be():
    shop = Timeline(only="tell", front=service(calls="cart"), cart=service(2)).at(0).ready("front.0").expect()
    shop.at(1).ready("cart.1").expect("tell front.0: cart.1")
    shop.at(2).ready("cart.0").expect("tell front.0: cart.0 cart.1")
    shop.at(3).dies("cart.0").expect("tell front.0: cart.1")
    # Where nobody is left, calls wait at the doors of those who come.
    shop.at(4).dies("cart.1").expect("tell front.0: cart.0 cart.1")
    shop.at(5).ready("cart.1#2").expect("tell front.0: cart.1")
    shop.dies("cart.0#2").at(5.05).dies("cart.1#2").at(5.06).expect("5.05 tell front.0: cart.0 cart.1")


def test_who_drains_or_is_to_be_killed_gets_no_more_calls():
    shop = told(front=service(calls="cart"), cart=service(3)).slow("cart").load("cart.2", 1)
    shop.scale("cart", 2).expect("tell front.0: cart.1 cart.2").ends("cart.0").expect()
    shop.hangs("cart.1").at(9).started()
    shop = told(front=service(calls="cart"), cart=service(2)).slow("cart").hangs("cart.1").at(5)
    shop.expect("4.5 tell front.0: cart.0").dies("cart.1").ready("cart.1#2").expect("tell front.0: cart.0 cart.1")


def test_a_service_that_sleeps_is_called_where_a_call_wakes_it():
    shop = told(front=service(calls="cart"), cart=service((0, 3), idle_seconds=2.0)).at(2.5).expect().knocks("cart")
    shop.slow("cart").at(3).expect().ready("cart.0#2").expect()


def test_a_service_that_somebody_scales_to_zero_says_so_until_somebody_scales_it_again():
    shop = told(front=service(calls="cart"), cart=service(2)).scale("cart", 0)
    shop.expect("tell front.0: no cart: is scaled to zero by anna")
    assert shop.state.router().asleep() == {"cart": "is scaled to zero by anna"}
    shop.at(2).slow("cart").scale("cart", 1).expect("tell front.0: cart.0").ready("cart.0#2").expect()
    assert shop.state.router().asleep() == {}


def test_whoever_is_scaled_to_zero_while_it_starts_still_has_its_door_open():
    shop = Timeline(only="kill", cart=service()).at(0).supervisor_dies().scale("cart", 0)
    assert shop.expect().state.router().asleep() == {}  # it was adopted, and may serve
    shop.ready("cart.0").expect()
    assert shop.state.router().asleep() == {"cart": "is scaled to zero by anna"}


def test_a_set_that_is_about_to_end_keeps_no_service_from_being_asleep():
    shop = told(front=service(calls="cart"), cart=service()).slow("cart").deploy(cart=service()).at(2).scale("cart", 0)
    shop.at(3).started()
    assert (shop.living("cart"), shop.stage) == (["cart.0"], "promoted")  # it drains
    assert shop.state.router().asleep() == {"cart": "is scaled to zero by anna"}


def test_a_program_is_called_at_the_port_of_the_one_that_serves():
    db = service(program=True, components=("Db",))
    shop = told(only="tell order", front=service(calls="db"), db=db).slow("db").restart("db").expect()
    shop.ready("db.0#2").expect("tell front.0: db.0#2").ends("db.0").expect()
    shop.dies("db.0#2").expect("tell front.0: db.0#3").restart("db").ready("db.0#3").expect()


def test_nobody_is_told_of_those_whom_it_does_not_call():
    shop = told(front=service(calls="cart"), cart=service(calls="db"), db=service(), other=service())
    shop.dies("other.0").expect().dies("db.0").expect().slow("db")
    shop.scale("db", 2).ready("db.1").expect("tell cart.0: db.0 db.1")


# -- releases -------------------------------------------------------------------------------------------


def test_each_release_has_its_own_way_and_its_share():
    shop = told(front=service(calls="cart mail"), cart=service(calls="mail"), mail=service()).slow("cart@2")
    shop.deploy(cart=service(calls="mail"), canary=0.1).expect(
        "tell front.0: r1 100% → cart.0 mail.0; r2 0% → cart@2.0 mail.0",
        "tell cart.0: r1 100% → mail.0; door http 0% → ",
        "tell mail.0: r1 100% → nobody; r2 0% → nobody",
    )
    shop.ready("cart@2.0").expect(
        "tell cart.0: r1 100% → mail.0; door http 0% → cart@2.0",
        "tell front.0: r1 90% → cart.0 mail.0; r2 10% → cart@2.0 mail.0",
        "tell cart.0: r1 100% → mail.0; door http 10% → cart@2.0",
        "tell mail.0: r1 90% → nobody; r2 10% → nobody",
        "tell cart@2.0: r2 100% → mail.0; door http 90% → cart.0",
    )
    shop.slow("cart").promote().expect(
        "tell front.0: r1 0% → cart.0 mail.0; r2 100% → cart@2.0 mail.0",
        "tell cart.0: mail.0; door http 100% → cart@2.0",
        "tell mail.0: r1 0% → nobody; r2 100% → nobody",
        "tell cart@2.0: r2 100% → mail.0; door http 0% → cart.0",
        # A task that was begun in a request, and goes on, finds its way where all find it.
        "tell front.0: r1 0% → mail.0; r2 100% → cart@2.0 mail.0",
        "tell cart@2.0: r2 100% → mail.0; door http 0% → ",
    )
    shop.ends("cart.0").expect("tell front.0: cart@2.0 mail.0", "tell cart@2.0: mail.0", "tell mail.0: nobody")


def test_the_door_of_another_build_takes_its_share_of_connections():
    web = service(doors=("Web",), components=("Web",))
    shop = told(web=web).slow("web@2").deploy(web=web, canary=0.2, sticky="X-Client").started()
    shop.ready("web@2.0").expect(
        "tell web.0: r1 100% → nobody; door http 0% → web@2.0; door Web 0% → web@2.0",
        "tell web.0: r1 100% → nobody; door http 20% → web@2.0; door Web 20% → web@2.0",
        "tell web@2.0: r2 100% → nobody; door http 80% → web.0; door Web 80% → web.0",
    )
    held = {door: [(one.serial, part) for one, part in to] for door, to in shop.state.router().holders().items()}
    assert held == {Door("", "web"): [(1, 0.8), (2, 0.2)], Door("Web"): [(1, 0.8), (2, 0.2)]}
    assert shop.state.told(shop.set_of("web")).routes.sticky == "x-client"


def test_who_drains_hands_its_connections_to_those_that_new_ones_go_to():
    web = service(2, doors=("Web",), components=("Web",))
    shop = told(only="order", web=web, back=service()).slow("web").scale("web", 1)
    shop.expect("order web.0: 10 s, idle 5 s, to web.1 web.1").ends("web.0")
    shop.scale("back", 0).expect("order back.0: 10 s, idle 0 s, to nobody").deploy(web=web)
    shop.expect("order web.1: 10 s, idle 5 s, to web@2.0 web@2.0")


# -- who may call ----------------------------------------------------------------------------------------


def test_only_who_declares_a_reference_may_call_and_people():
    shop = told(
        front=service(calls="cart"),
        cart=service(calls="prices"),
        prices=service(components=("Prices", "Stock")),
        stranger=service(),
        job=service(calls="stock", program=True, components=("Job",)),
    )
    assert shop.access("cart.0") == {"Front": "Cart", "Operator": "Cart"}
    assert shop.access("prices.0") == {"Cart": "Prices", "Job": "Stock", "Operator": "Prices Stock"}
    assert shop.access("front.0") == {"Operator": "Front"}
    assert shop.access("stranger.0") == {"Operator": "Stranger"}
    rules = shop.state.told(shop.set_of("prices")).routes.callers
    assert rules.services == {"Operator": ("Operator",), "cart": ("Cart",), "job": ("Job",)}
    assert rules.programs == {"job"}


def test_a_reference_that_a_release_drops_lets_nobody_in_once_the_earlier_one_is_gone():
    shop = (
        told(front=service(calls="cart"), cart=service(), mail=service(calls="cart"))
        .slow("front@2")
        .traffic("mail.0", r1=1)
    )
    shop.deploy(front=service(), cart=service(), canary=0.5).started()
    assert shop.access("cart@2.0") == {"Mail": "Cart", "Operator": "Cart"}  # never in it
    assert shop.access("cart.0") == {"Front": "Cart", "Mail": "Cart", "Operator": "Cart"}
    shop.prompt("front@2").at(1.5).promote().at(2).started()
    assert shop.stage == "promoted"  # a request of the earlier one is in flight
    assert shop.access("cart@2.0") == {"Mail": "Cart", "Operator": "Cart"}
    shop.traffic("mail.0").at(3).started()
    assert (shop.stage, shop.living("cart")) == ("", ["cart@2.0"])
    assert shop.access("cart@2.0") == {"Mail": "Cart", "Operator": "Cart"}


def test_a_set_of_both_releases_may_be_called_by_the_callers_of_each():
    shop = told(front=service(calls="cart"), mail=service(), cart=service()).slow("mail@2", "front")
    assert shop.access("cart.0") == {"Front": "Cart", "Operator": "Cart"}
    shop.deploy(front=service(), mail=service(calls="cart")).started()
    assert shop.access("cart.0") == {"Front": "Cart", "Mail": "Cart", "Operator": "Cart"}
    shop.ready("mail@2.0").at(2).ends("front.0").at(3).started()
    assert shop.stage == ""
    assert shop.access("cart.0") == {"Mail": "Cart", "Operator": "Cart"}


def test_who_has_been_let_in_by_the_later_release_is_let_out_again_when_it_is_given_up():
    shop = told(front=service(), cart=service()).slow("front@2").deploy(front=service(calls="cart"))
    assert shop.at(2).started().access("cart.0") == {"Front": "Cart", "Operator": "Cart"}
    shop.abort().prompt("front@2").at(3).started()
    assert shop.access("cart.0") == {"Operator": "Cart"}


# -- after a takeover ---------------------------------------------------------------------------------------


def test_callers_keep_what_they_have_until_all_have_reported():
    shop = told(front=service(calls="cart"), cart=service(2)).slow("front", "cart").supervisor_dies()
    shop.at(1.5).ready("front.0", "cart.0").expect().at(2).ready("cart.1")
    shop.expect("tell front.0: cart.0 cart.1", "tell cart.0: nobody", "tell cart.1: nobody")


def test_they_do_so_whatever_is_new_of_others_whom_they_call():
    shop = told(front=service(calls="cart mail"), cart=service(2), mail=service(), back=service(calls="mail"))
    shop.slow("front", "cart", "mail", "back").supervisor_dies()
    shop.at(1.5).ready("front.0", "mail.0", "back.0", "cart.0").expect("tell back.0: mail.0")
    shop.dies("mail.0").expect().ready("mail.0#2").expect().at(2).ready("cart.1")
    shop.expect("tell front.0: cart.0 cart.1 mail.0", "tell cart.0: nobody", "tell cart.1: nobody")


def test_while_releases_change_a_door_keeps_those_that_it_hands_connections_to():
    web = service(doors=("Web",), components=("Web",), calls="back")
    shop = told(web=web, back=service()).deploy(web=web, canary=0.2).at(2).started().slow("web", "web@2", "back")
    shop.supervisor_dies().at(2.5).ready("web.0", "back.0").expect().at(3).ready("web@2.0").expect(
        "tell web.0: r1 100% → back.0; door http 20% → web@2.0; door Web 20% → web@2.0",
        "tell back.0: r1 80% → nobody; r2 20% → nobody",
        "tell web@2.0: r2 100% → back.0; door http 80% → web.0; door Web 80% → web.0",
    )


def test_one_that_never_reports_holds_nobody_up_for_long():
    shop = told(front=service(calls="cart"), cart=service(2)).slow("front", "cart").supervisor_dies().at(1.5)
    shop.ready("front.0", "cart.0").at(3.9).expect().at(4).expect("tell front.0: cart.0", "tell cart.0: nobody")


def test_what_is_told_after_a_takeover_is_newer_than_all_before():
    shop = told(front=service(calls="cart"), cart=service())
    before = shop.state.versions()["front@1"]
    shop.supervisor_dies().at(2).started()
    assert shop.state.versions()["front@1"] > before


def test_nothing_is_told_when_all_is_stopped():
    table = RouteTable()
    table.close()
    assert table.update({"cart": ("a",)}, (), 5.0) == set()
    assert table.held(1e9)

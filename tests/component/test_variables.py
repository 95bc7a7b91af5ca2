"""Variables that travel: which may be named, and how they are read and written."""

from contextvars import ContextVar, copy_context
from math import inf, isnan, nan
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fissile import Application, DeclarationError, InvalidArgument, component
from fissile.component.variables import BYTES_MAX, Variables

TENANT: ContextVar[Any] = ContextVar("tenant")
LIMIT: ContextVar[Any] = ContextVar("limit", default=10)
STRICT: ContextVar[Any] = ContextVar("strict", default=False)
SHARE: ContextVar[Any] = ContextVar("share of all", default=0.5)
ALL = (TENANT, LIMIT, STRICT, SHARE)


@component
class Alone:
    async def go(self) -> None: ...


def sent(values: dict[str, Any]) -> str:
    """The header of a process in which these variables are set."""
    variables = Variables(ALL)

    def write() -> str:
        variables.apply(values)
        return variables.to_baggage()

    return copy_context().run(write)


def test_an_application_names_its_variables() -> None:
    app = Application(Alone, context=[TENANT, LIMIT])
    assert set(app.context.by_name) == {"tenant", "limit"}
    assert not Application(Alone).context


@pytest.mark.parametrize(
    ("context", "message"),
    [
        (["tenant"], "'tenant' is not a ContextVar"),
        (TENANT, "pass a list, as in"),
        (None, "pass a list, as in"),
        ([TENANT, ContextVar("tenant")], "two variables are named 'tenant'"),
        ([ContextVar("fissile_tenant")], "begins with 'fissile'"),
        ([ContextVar(f"v{number}") for number in range(65)], "65 variables"),
    ],
)
def test_mistakes_of_a_declaration(context: list[Any], message: str) -> None:
    with pytest.raises(DeclarationError, match=message):
        Application(Alone, context=context)


class Word(str):
    """No plain string."""


@pytest.mark.parametrize("value", [object(), [1], b"raw", 2**64, Word("a"), "\ud800"])
def test_what_cannot_travel_is_named(value: Any) -> None:
    variables = Variables(ALL)

    def collect() -> None:
        TENANT.set(value)
        for form in (variables.collect, variables.pack, variables.to_baggage):
            with pytest.raises(InvalidArgument, match="'tenant' cannot travel"):
                form()

    copy_context().run(collect)


SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text()


def same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and (one == other or (isinstance(one, float) and isnan(one) and isnan(other)))


@given(st.fixed_dictionaries({}, optional={variable.name: SCALARS for variable in ALL}))
def test_both_forms_keep_value_and_type(values: dict[str, Any]) -> None:
    variables = Variables(ALL)

    def pack() -> bytes:
        variables.apply(values)
        return variables.pack()

    for found in (variables.unpack(copy_context().run(pack)), variables.from_baggage(sent(values))):
        assert found.keys() == values.keys()
        assert all(same(found[name], values[name]) for name in values)


def test_strings_travel_as_they_are() -> None:
    assert sent({"tenant": "acme/eu"}) == "tenant=acme/eu"
    assert sent({"tenant": 'a, "b"; ä'}) == "tenant=a%2C%20%22b%22%3B%20%C3%A4"
    assert sent({"limit": 3, "strict": True}) == "limit=3;fissile-type=int,strict=true;fissile-type=bool"
    assert sent({"limit": "3"}) == "limit=3;fissile-type=str"  # a reader would take it for an int
    assert sent({}) == ""


@pytest.mark.parametrize(
    ("header", "values"),
    [
        ("tenant = acme ; secret , limit=5,strict=true", {"tenant": "acme", "limit": 5, "strict": True}),
        ("share%20of%20all=1", {"share of all": 1.0}),
        ("limit=many,tenant,=,,;,strict=perhaps,other=1,tenant=%ff", {}),
        ("limit=7;fissile-type=int;fissile-type=float", {"limit": 7}),
        ("limit=1,tenant=" + "a" * BYTES_MAX + ",limit=2", {"limit": 1}),
    ],
)
def test_baggage_of_others(header: str, values: dict[str, Any]) -> None:
    assert Variables(ALL).from_baggage(header) == values


@given(st.text() | st.lists(st.sampled_from(["tenant", "=", ";", ",", "%", "limit", "fissile-type", "int", "é"])))
def test_no_header_does_harm(header: str | list[str]) -> None:
    assert isinstance(Variables(ALL).from_baggage("".join(header)), dict)


def test_too_much_for_a_header() -> None:
    with pytest.raises(InvalidArgument, match="take 9007 bytes"):
        sent({"tenant": "a" * 9000})


def test_too_much_for_a_frame() -> None:
    def pack() -> bytes:
        TENANT.set("a" * 9000)
        return Variables(ALL).pack()

    with pytest.raises(InvalidArgument, match="tenant, limit, strict, share of all take 9011 bytes"):
        copy_context().run(pack)


def test_a_callee_gets_what_it_takes() -> None:
    def pack(known: tuple[str, ...]) -> dict[str, Any]:
        TENANT.set("acme")
        LIMIT.set(3)
        return Variables(ALL).unpack(Variables(ALL).pack("", known))

    assert copy_context().run(pack, ("limit", "unheard")) == {"limit": 3}
    assert copy_context().run(pack, ()) == {}


def test_foreign_bytes() -> None:
    with pytest.raises(InvalidArgument, match="cannot be read"):
        Variables(ALL).unpack(b"\xc1")
    assert Variables(ALL).unpack(b"") == {}


def test_infinite_and_not_a_number() -> None:
    assert Variables(ALL).from_baggage(sent({"share of all": inf})) == {"share of all": inf}
    assert isnan(Variables(ALL).from_baggage(sent({"share of all": nan}))["share of all"])

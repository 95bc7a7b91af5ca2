"""What an application may declare, and that every mistake in it is told at once with its remedy."""

import enum
from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any, ClassVar, Generic, TypeVar

import msgspec
import pytest

from fissile import Application, DeclarationError, Lazy, component, interface, method
from fissile.component.declared_errors import error_fields
from fissile.component.failure import from_failure, to_failure

T = TypeVar("T")


class Box(msgspec.Struct, Generic[T], frozen=True):
    value: T


class Settings(msgspec.Struct, frozen=True):
    size: int = 3


@component
class Store:
    """Keeps things."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @method(idempotent=True, timeout=1.5)
    async def read(self, key: str, *, fresh: bool = False) -> str:
        """The value of a key."""
        return key

    async def listing(self, prefix: str = "") -> AsyncIterator[str]:
        yield prefix

    def plain(self) -> int:
        return 1

    async def _private(self) -> int:
        return 1


@component
class Front:
    def __init__(self, store: Store) -> None:
        self.store = store

    async def show(self) -> str:
        return await self.store.read("a")


def mistakes_of(*classes: Any) -> str:
    with pytest.raises(DeclarationError) as caught:
        Application(*classes)
    return "\n".join(caught.value.mistakes)


def test_an_application_knows_its_components_in_start_order() -> None:
    app = Application(Front, Store, name="demo")
    assert list(app.components) == ["Store", "Front"]
    assert app.components["Front"].references[0].target == "Store"
    assert app.components["Store"].configs[0].type is Settings
    assert app.callers("Store") == ("Front",)


def test_public_async_methods_are_the_api() -> None:
    store = Application(Front, Store).components["Store"].interface
    assert set(store.methods) == {"read", "listing"}
    read = store.methods["read"]
    assert (read.idempotent, read.timeout, read.streaming, read.result) == (True, 1.5, False, str)
    assert [(p.name, p.required, p.keyword_only) for p in read.parameters] == [
        ("key", True, False),
        ("fresh", False, True),
    ]
    assert store.methods["listing"].streaming


async def test_a_decorated_class_is_still_a_plain_class() -> None:
    assert await Front(Store(Settings())).show() == "a"


def test_fingerprints_follow_the_types_and_nothing_else() -> None:
    def declared(annotation: Any, default: Any = ...) -> str:
        @component(name="Thing")
        class Thing:
            async def do(self, value: Any) -> None: ...

        Thing.do.__annotations__["value"] = annotation
        if default is not ...:
            Thing.do.__defaults__ = (default,)
        return Application(Thing).components["Thing"].interface.methods["do"].fingerprint

    assert declared(int) == declared(int)
    assert declared(int) != declared(str)
    assert declared(int) != declared(int, 3)  # a parameter that may be left out is another contract
    assert declared(int, 3) == declared(int, 4)


def test_all_mistakes_are_told_at_once() -> None:
    @component
    class Many:
        def __init__(self, mystery: complex, nothing) -> None: ...  # type: ignore[no-untyped-def]

        async def untyped(self, value) -> None: ...  # type: ignore[no-untyped-def]

        async def odd(self, value: complex) -> None: ...

        async def silent(self, value: int): ...  # type: ignore[no-untyped-def]

        @method
        def blocking(self) -> None: ...

        @method
        async def _hidden(self) -> None: ...

        async def rest(self, *values: int) -> None: ...

        async def forgot_to_yield(self) -> AsyncIterator[int]:
            return None  # type: ignore[return-value]

    text = mistakes_of(Many, Many)
    for expected in (
        "'mystery' has the type complex",
        "'nothing' has no annotation",
        "Many.untyped: parameter 'value' has no annotation",
        "Many.odd: parameter 'value' cannot be encoded",
        "Many.silent has no return annotation",
        "Many.blocking is a plain `def`: declare it `async def`",
        "Many._hidden is private",
        "*values has no fixed type",
        "Many.forgot_to_yield is annotated as a stream but never yields",
        "two components are named 'Many'",
    ):
        assert expected in text


def test_a_reference_to_a_component_that_is_not_there() -> None:
    assert "Front.__init__: parameter 'store' refers to Store, which is not in the application" in mistakes_of(Front)


def test_a_reference_that_two_components_could_fill() -> None:
    @interface
    class Payments:
        async def pay(self) -> None: ...

    @component(implements=Payments)
    class Bank:
        async def pay(self) -> None: ...

    @component(implements=Payments)
    class Cash:
        async def pay(self) -> None: ...

    @component
    class Till:
        def __init__(self, payments: Payments) -> None: ...

    Till.__init__.__annotations__["payments"] = Payments
    assert "is ambiguous: Bank and Cash both provide Payments" in mistakes_of(Till, Bank, Cash)


def test_an_implementation_has_to_fit_its_interface() -> None:
    @interface
    class Wanted:
        async def one(self, value: int) -> int: ...

        async def two(self) -> None: ...

        async def three(self) -> int: ...

    @component(implements=Wanted)
    class Given:
        async def one(self, value: str) -> int: ...

        async def three(self) -> str: ...

    text = mistakes_of(Given)
    assert "Given.one: its parameters differ from Wanted.one" in text
    assert "Given.two is missing" in text
    assert "Given.three: its result differs" in text


@component
class Egg:
    def __init__(self, hen: "Hen") -> None: ...


@component
class Hen:
    def __init__(self, egg: Egg) -> None: ...


@component
class Left:
    def __init__(self, right: "Lazy[Right]") -> None:
        self.right = right

    async def ask(self) -> str:
        return await self.right.get().answer()


@component
class Right:
    def __init__(self, left: Left) -> None:
        self.left = left

    async def answer(self) -> str:
        return "right"


def test_a_cycle_is_named_and_lazy_breaks_it() -> None:
    text = mistakes_of(Egg, Hen)
    assert "reference cycle Egg → Hen → Egg" in text
    assert text.count("cycle") == 1
    assert list(Application(Left, Right).components) == ["Left", "Right"]


@pytest.mark.parametrize("name", ["_Hidden", "Control", "two words"])
def test_names_that_cannot_be(name: str) -> None:
    @component(name=name)
    class Thing: ...

    assert f"{name!r} is private, reserved or no identifier" in mistakes_of(Thing)


def test_something_that_is_no_component() -> None:
    assert "int is not a component" in mistakes_of(int)


def test_no_components_at_all() -> None:
    assert "no components" in mistakes_of()


class Conflict(Exception):
    """With what its class alone has."""

    status: ClassVar[int] = 409
    left: int


class Unsendable(Exception):
    cause: Exception
    _kept: Exception


class Unresolved(Exception):
    left: "Nowhere"  # type: ignore[name-defined]  # noqa: F821


class Twin(Exception): ...


OtherTwin = type("Twin", (Exception,), {"__module__": "elsewhere"})


def test_errors_travel_with_their_own_fields() -> None:
    @component
    class Till:
        @method(raises=(Conflict,))
        async def pay(self) -> None: ...

    (pay,) = Application(Till).components["Till"].interface.methods.values()
    error = Conflict()
    error.left = 3
    found = from_failure(to_failure(error, pay), pay)
    assert type(found) is Conflict
    assert vars(found) == {"left": 3}


def test_errors_that_could_not_travel() -> None:
    @component(raises=(Twin,))
    class Till:
        @method(raises=(Unsendable,))
        async def pay(self) -> None: ...

        @method(raises=(OtherTwin,))
        async def refund(self) -> None: ...

        @method(raises=(Unresolved,))
        async def close(self) -> None: ...

    text = mistakes_of(Till)
    assert "Till.pay: field 'cause' of Unsendable cannot be encoded" in text
    assert "_kept" not in text
    assert "Till.refund: raises has two errors named Twin" in text
    assert "Till.close: an annotation of Unresolved cannot be resolved" in text


def test_frozen_types_with_parameters() -> None:
    @component
    class Till:
        async def pay(self, amount: Box[int]) -> Box[list[int]]: ...

    (pay,) = Application(Till).components["Till"].interface.methods.values()
    assert (pay.immutable_arguments, pay.immutable_result) == (True, False)


class Filed(msgspec.Struct, frozen=True):
    name: str = None  # type: ignore[assignment]
    rest: list[int] = []


class Brief(msgspec.Struct, frozen=True, omit_defaults=True):
    name: str = None  # type: ignore[assignment]


class Kind(enum.StrEnum):
    A = "a"


def test_a_default_has_to_fit_its_type() -> None:
    @component
    class Till:
        async def find(self, name: str = None, count: int = True, *, at: bytes = "x") -> str: ...  # type: ignore  # noqa: RUF013

        async def parts(self, of: tuple[int, ...] = (1, "2")) -> Filed: ...  # type: ignore[assignment]

        async def strange(self, thing: str = object()) -> Filed: ...  # type: ignore[assignment]

    text = mistakes_of(Till)
    assert "Till.find: parameter 'name': its default None does not fit its type" in text
    assert "annotate `str | None`" in text
    assert "parameter 'count': its default True does not fit" in text
    assert "parameter 'at': its default 'x' does not fit" in text
    assert "parameter 'of': its default (1, '2') does not fit" in text
    assert "parameter 'thing': its default <object object at" in text

    @component
    class Other:
        async def first(self) -> Filed: ...

        async def second(self, one: list[Filed], other: Brief) -> None: ...

    assert mistakes_of(Other).count("field 'name' of Filed: its default None does not fit its type") == 1
    assert "Brief" not in mistakes_of(Other)


def test_a_default_is_what_arrives() -> None:
    @component
    class Till:
        async def pay(
            self,
            rate: float = 1,
            of: Sequence[int] = (),
            kind: str = Kind.A,
            own: Kind = Kind.A,
            zone: datetime = datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=2))),
            limit: float = float("nan"),
        ) -> None: ...

    (pay,) = Application(Till).components["Till"].interface.methods.values()
    found = [parameter.default for parameter in pay.parameters]
    assert [type(value) for value in found] == [float, list, str, Kind, datetime, float]
    assert found[4].utcoffset() == timedelta(hours=2)


class Base(Exception):
    def __init__(self, what: str, *, count: int = 0, quiet: bool = False) -> None:
        super().__init__(what)
        self.what = what
        self.count = count
        self._quiet = quiet


class Derived(Base):
    detail: bytes

    def __init__(self, what: str, why: list[int]) -> None:
        super().__init__(what, count=len(why))
        self.why, self.detail = why, b""
        self.args = (what, 1)


Derived.__annotations__["why"] = list[int]


class Unnamed(Exception):
    def __init__(self, what, code: int, other: int, *rest: int, **more: int) -> None:  # type: ignore[no-untyped-def]
        self.what = what
        self.code = code if code else other
        self.other = other or code
        self.rest = rest
        self.more = more
        self.total = code + other
        self.kept = lambda: code
        code = 3
        self.last = code


class Unfit(Exception):
    def __init__(self, what: str = None, thing: object = None) -> None:  # type: ignore[assignment]  # noqa: RUF013
        self.what = what
        self.thing = thing


class Leveled(Exception):
    level: str = None  # type: ignore[assignment]


def test_what_a_constructor_keeps_is_a_field() -> None:
    assert error_fields(Base) == {"what": str, "count": int}
    assert error_fields(Derived) == {"what": str, "count": int, "why": list[int], "detail": bytes}

    @component(raises=(Base, Derived))
    class Till:
        async def pay(self) -> None: ...

    (pay,) = Application(Till).components["Till"].interface.methods.values()
    found = from_failure(to_failure(Derived("w", [1, 2]), pay), pay)
    assert isinstance(found, Derived)
    assert (found.what, found.count, found.why, found.detail, found.args) == ("w", 2, [1, 2], b"", ("w", 1))

    before = pay.fingerprint

    @component(raises=(Base,), name="Till")
    class Less:
        async def pay(self) -> None: ...

    assert Application(Less).components["Till"].interface.methods["pay"].fingerprint != before


def test_what_no_annotation_names_is_a_mistake() -> None:
    @component(raises=(Unnamed, Unfit, Leveled))
    class Till:
        async def pay(self) -> None: ...

    text = mistakes_of(Till)
    for name in ("what", "code", "other", "rest", "more", "total", "kept", "last"):
        assert f"Unnamed sets '{name}' in its constructor" in text
    assert "field 'thing' of Unfit cannot be encoded" in text
    assert "field 'what' of Unfit: its default None does not fit its type" in text
    assert "field 'level' of Leveled: its default None does not fit its type" in text


def test_an_argument_by_its_old_name_is_told_its_new_one():
    with pytest.raises(DeclarationError, match="keeps= is called volatile_state= now"):
        component(keeps="carts")  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="unexpected keyword argument 'keep'"):
        component(keep="carts")  # type: ignore[call-overload]

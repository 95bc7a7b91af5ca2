"""docs/reference/components.md: its code runs, its tables are true."""

import dataclasses
import enum
import re
import sys
import typing
from collections.abc import Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import UUID

import msgspec
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from pages import DOCS, module

import fissile
from fissile import Application, CallError, DeclarationError, InvalidArgument, RemoteError, component
from fissile.component.interface import read_interface
from fissile.component.values import unsupported
from fissile.rpc.deadline import environment
from fissile.runtime.host import Host
from fissile.settings.load import load, resolve

PAGE = DOCS / "reference" / "components.md"


@pytest.fixture(scope="module")
def page() -> ModuleType:
    return module(PAGE, "components_page")


def reference(app: Application, name: str, **config: Any) -> Any:
    """A reference to a component of an application in this process, values always copied."""
    return host(app, **config).reference(name, name)


def host(app: Application, **config: Any) -> Host:
    return Host(app, app.components, config=config, environment=environment(copy_always=True))


def table(heading: str) -> list[list[str]]:
    """The rows of the first table below a heading, or below the row of titles."""
    _, _, rest = PAGE.read_text().partition(heading)
    lines = rest[rest.index("\n|---") + 1 :].split("\n")[1:]
    rows = lines[: next(number for number, line in enumerate(lines) if not line.startswith("|"))]
    return [[cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows]


async def test_callees_start_first_and_stop_last(page: ModuleType):
    app = page.app
    assert list(app.components) == ["Clock", "Notes"]
    here = host(app, Notes={"limit": 50})
    notes = here.instance("Notes")
    assert (notes.config.limit, notes.config.folder) == (50, "data")
    await here.start()
    assert notes.day == "2024-05-01"
    assert await here.reference("Notes", "Notes").add("tea") == page.Note(1, "tea")
    with pytest.raises(AttributeError):
        _ = here.reference("Notes", "Notes").notes
    assert await here.stop() == []
    assert notes.notes == []


async def test_a_start_that_fails_stops_what_was_started():
    said: list[str] = []

    @component
    class First:
        async def start(self) -> None:
            said.append("start")

        async def stop(self) -> None:
            said.append("stop")

    @component
    class Second:
        def __init__(self, first: First) -> None: ...

        async def start(self) -> None:
            raise OSError

    with pytest.raises(fissile.FissileError, match="Second"):
        await host(Application(First, Second)).start()
    assert said == ["start", "stop"]


def test_the_rules_of_a_constructor():
    @component
    class Missing: ...

    class Plain: ...

    @component
    class Able:
        def __init__(self, other: Missing | None = None, size: int = 3) -> None:
            self.got = other, size

    @component
    class Wanting:
        def __init__(self, plain: Plain) -> None: ...

    assert host(Application(Able)).instance("Able").got == (None, 3)
    assert host(Application(Able, Missing)).instance("Able").got[0] is not None
    with pytest.raises(DeclarationError, match="Plain"):
        Application(Wanting)


def test_the_environment_comes_before_the_file(page: ModuleType, tmp_path: Path):
    settings = re.findall(r"```toml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (tmp_path / "fissile.toml").write_text('app = "notes:app"\n' + "\n".join(settings))
    (variable,) = re.findall(r"^    (FISSILE_\w+)=20 fissile run$", PAGE.read_text(), re.MULTILINE)
    found = load(tmp_path)
    assert host(page.app, **found.components).instance("Notes").config.limit == 50
    found = resolve(found, page.app, {variable: "20"})
    assert host(page.app, **found.components).instance("Notes").config.limit == 20
    with pytest.raises(fissile.ConfigError, match="unknown key"):
        host(page.app, Notes={"limits": 1})


class Kind(enum.Enum):
    ONE = 1


class Pair(typing.NamedTuple):
    left: int


class Table(typing.TypedDict):
    left: int


@dataclasses.dataclass
class Row:
    left: int


SAYS = {
    "msgspec.Struct": "Note",
    "dataclass": Row,
    "NamedTuple": Pair,
    "TypedDict": Table,
    "pydantic model (version 2)": "Order",
    "Enum": Kind,
}


async def test_the_types_that_may_cross(page: ModuleType):
    names = {**vars(page), **vars(typing), **vars(msgspec), **globals(), "Order": page.Order}
    for types, example, arrives in table("## Types that may cross"):
        kinds = re.findall(r"`([^`]+)`", types) or [types]
        kinds += ["dataclass"] * ("dataclass" in types)
        declared = [SAYS.get(name) or eval(name, names) for name in kinds]
        declared = [vars(page)[kind] if isinstance(kind, str) else kind for kind in declared]
        assert [kind for kind in declared if unsupported(kind) is not None] == [], types
        value, came = (eval(re.findall(r"`([^`]+)`", cell)[0], names) for cell in (example, arrives))
        got = [await arrived(kind, value) for kind in declared]
        assert (type(came), came) in [(type(one), one) for one in got], (example, got)


async def arrived(kind: Any, value: Any) -> Any:
    """What comes back of a value over the codec of a wire, declared with this type; or what was raised."""
    try:
        return await echo(kind)(value)
    except (CallError, TypeError, ValueError) as error:
        return error


def echo(kind: Any) -> Any:
    """A method that returns what it gets, over the codec of a wire."""

    class Echo:
        async def back(self, value):
            return value

    Echo.back.__annotations__.update(value=kind, **{"return": kind})
    return reference(Application(component(Echo)), "Echo").back


async def test_a_limit_is_kept():
    back = echo(typing.Annotated[int, msgspec.Meta(gt=0)])
    with pytest.raises(InvalidArgument, match="value"):
        await back(0)


def test_the_types_that_are_refused():
    from collections import deque
    from collections.abc import Callable, Iterator
    from io import TextIOBase

    class Own:
        def __init__(self) -> None:
            self.size = 1

    kinds = [Own, Path, complex, range, deque[int], Callable[[], int], Iterator[int], TextIOBase, ValueError]
    assert [kind for kind in kinds if unsupported(kind) is None] == []
    assert unsupported(Row | Table) is not None


async def test_a_pydantic_model_is_validated_where_it_arrives(page: ModuleType):
    orders = reference(Application(page.Orders), "Orders")
    assert await orders.place(page.Order(product="mug")) == page.Order(product="mug", quantity=2)
    with pytest.raises(InvalidArgument, match="quantity"):
        await orders.place(page.Order.model_construct(product="mug", quantity=0))


async def test_declared_errors_arrive_and_others_are_remote_errors(page: ModuleType):
    pad = reference(Application(page.Pad), "Pad")
    with pytest.raises(page.TooLong, match="12 characters") as caught:
        await pad.write("twelve chars")
    assert caught.value.length == 12

    @component
    class Odd:
        async def fail(self) -> None:
            raise KeyError("x")

    with pytest.raises(RemoteError) as other:
        await reference(Application(Odd), "Odd").fail()
    assert other.value.type_name == "KeyError"
    assert "fail" in other.value.traceback_text


def test_the_errors_of_the_table_are_all_there_are():
    named = {name.strip("`") for name, _ in table("Fissile's own errors")}
    kinds = {name for name in fissile.__all__ if isinstance(getattr(fissile, name), type)}
    assert named == {n for n in kinds if issubclass(getattr(fissile, n), CallError)} - {"CallError"}
    assert hasattr(fissile.Overloaded("x"), "retry_after_seconds")


async def test_deadlines_context_and_streams(page: ModuleType):
    methods = read_interface(page.Search)[0].methods
    assert (methods["find"].timeout, methods["find"].idempotent) == (0.5, True)
    assert methods["reindex"].timeout == float("inf")
    assert await reference(Application(page.Search), "Search").find("a b") == ["a", "b"]
    page.tenant.set("acme")
    assert await reference(page.billing, "Billing").payer() == "acme"
    ticker = reference(Application(page.Ticker), "Ticker")
    assert [tick async for tick in ticker.ticks(3)] == [0, 1, 2]
    assert fissile.current() is None
    assert {"trace_id", "release", "deadline"} <= set(fissile.CallContext.__struct_fields__)


async def test_lazy_references_and_interfaces(page: ModuleType, capsys: pytest.CaptureFixture[str]):
    assert await reference(page.farm, "Chicken").origin() == "egg of chicken"

    @component
    class A:
        def __init__(self, other: Any) -> None: ...

    @component
    class B:
        def __init__(self, other: A) -> None: ...

    A.__init__.__annotations__["other"] = B
    with pytest.raises(DeclarationError, match="A → B → A"):
        Application(A, B)
    await reference(page.invites, "Invites").invite("ada")
    assert capsys.readouterr().out == "to ada: Join us!\n"


_ = (Sequence, date, datetime, time, timedelta, Decimal, UUID)  # names that the page's tables use

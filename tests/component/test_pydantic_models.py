"""Pydantic models pass by value, as any record does, in one process and between two."""

from collections.abc import AsyncIterator
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from pydantic import BaseModel, ConfigDict, Field

from fissile import Application, InvalidArgument, component, method
from fissile.component.compatibility import ANSWERS, ARGUMENTS, refusal
from fissile.component.interface import read_interface
from fissile.component.survival import of_arguments, of_result
from fissile.component.values import describe, unsupported
from fissile.rpc.deadline import environment
from fissile.rpc.http.openapi import openapi
from fissile.runtime.host import Host


class Line(BaseModel):
    product: str
    quantity: int = Field(gt=0)


class Order(BaseModel):
    model_config = ConfigDict(strict=True)

    lines: list[Line]
    day: date
    at: datetime | None = None
    total: Decimal = Field(default=Decimal("0.10"), alias="sum")


class Tree(BaseModel):
    children: list["Tree"] = []


class Box(msgspec.Struct):
    order: Order
    label: str = ""


class TooMany(Exception):
    def __init__(self, line: Line) -> None:
        self.line = line


AT = datetime(2024, 5, 1, 12, tzinfo=timezone(timedelta(hours=2)))
ORDER = Order(lines=[Line(product="mug", quantity=2)], day=date(2024, 5, 1), at=AT, sum=Decimal("9.90"))


@component
class Shop:
    async def same(self, order: Order) -> Order:
        self.got = order
        return order

    async def inside(self, orders: list[Order | None], box: Box, named: dict[str, Line]) -> tuple[Box, Line]:
        return box, named["a"]

    async def items(self, order: Order) -> AsyncIterator[Line]:
        for line in order.lines:
            yield line

    async def wrong(self, order: Order) -> Line:
        return {"product": "mug", "quantity": 0}  # type: ignore[return-value]

    async def default(self, line: Line = Line(product="mug", quantity=1)) -> Line:  # noqa: B008
        return line

    async def tree(self, tree: Tree) -> int:
        return len(tree.children)

    @method(raises=(TooMany,))
    async def refuse(self, line: Line) -> None:
        raise TooMany(line)


def host(*, copy_always: bool = False) -> Host:
    app = Application(Shop)
    return Host(app, app.components, environment=environment(copy_always=copy_always))


@pytest.mark.parametrize("copy_always", [False, True])
async def test_a_model_arrives_as_an_equal_model(copy_always: bool) -> None:
    own = host(copy_always=copy_always)
    shop: Any = own.reference("Shop", "Shop")
    answered = await shop.same(ORDER)
    assert answered == ORDER
    assert answered is not ORDER
    assert own.instance("Shop").got is not ORDER
    assert answered.at.utcoffset() == timedelta(hours=2)
    assert await shop.inside([ORDER, None], Box(ORDER), {"a": ORDER.lines[0]}) == (Box(ORDER), ORDER.lines[0])
    assert [line async for line in shop.items(ORDER)] == ORDER.lines
    assert await shop.default() == Line(product="mug", quantity=1)
    assert await shop.tree(Tree(children=[Tree()])) == 1


async def test_values_are_validated_where_they_arrive() -> None:
    shop: Any = host().reference("Shop", "Shop")
    with pytest.raises(InvalidArgument, match="quantity"):
        await shop.same(Order.model_construct(lines=[Line.model_construct(product="mug", quantity=0)], day=ORDER.day))
    with pytest.raises(Exception, match="quantity"):
        await shop.wrong(ORDER)


async def test_a_declared_error_may_hold_one() -> None:
    with pytest.raises(TooMany) as caught:
        await host().reference("Shop", "Shop").refuse(ORDER.lines[0])
    assert caught.value.line == ORDER.lines[0]


def test_nothing_is_lost_on_a_wire() -> None:
    interface, mistakes = read_interface(Shop)
    assert mistakes == []
    assert of_arguments(interface.methods["same"], (ORDER,)) is None
    assert of_result(interface.methods["same"], ORDER) is None


def test_the_contract_knows_the_fields() -> None:
    class Longer(BaseModel):
        product: str
        quantity: int = Field(gt=0)
        note: str = ""

    class Other(BaseModel):
        product: str
        quantity: int = Field(gt=1)

    described = [describe(kind) for kind in (Line, Longer, Other)]
    assert [field["name"] for field in described[1]["fields"]] == ["product", "quantity", "note"]
    assert [field["required"] for field in described[1]["fields"]] == [True, True, False]
    assert described[1]["fields"][2]["default"] == ""
    assert described[0]["fields"][1]["type"] == {"int": [], "gt": 0}
    assert described[0] != described[2]
    # A field with a default may be added; a narrower limit refuses what earlier callers may send.
    assert refusal(described[1], described[0], ARGUMENTS) is None
    assert refusal(described[0], described[1], ANSWERS) is None
    assert refusal(described[2], described[0], ARGUMENTS) is not None
    assert describe(Tree)["fields"][0]["type"] == {"list": [{"recursive": 1, "class": "Tree"}]}
    assert [field["name"] for field in describe(Order)["fields"]] == ["lines", "day", "at", "sum"]


def test_another_class_is_still_refused() -> None:
    class Plain:
        pass

    assert unsupported(Line) is None
    assert "Plain" in str(unsupported(Plain))


def test_the_openapi_document_has_their_schemas() -> None:
    document = openapi("shop", [read_interface(Shop)[0]])
    text = msgspec.json.encode(document).decode()
    assert '"exclusiveMinimum":0' in text
    assert "$defs" not in text
    for part in text.split('"$ref":"#/components/schemas/')[1:]:
        assert part.partition('"')[0] in document["components"]["schemas"]

"""The page that `make bench` measures gives the same bytes with Fissile and without."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

PAGE = Path(__file__).parents[2] / "benchmarks" / "page"
PATH = "/products/7?session=session-3"


@pytest.fixture
def shopfront(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The application of the benchmark."""
    monkeypatch.syspath_prepend(str(PAGE))
    import shopfront

    yield shopfront
    del sys.modules["shopfront"]


def plain(shopfront: Any) -> Any:
    """The page without Fissile."""
    catalogue, prices, stock = shopfront.Catalogue(), shopfront.Prices(), shopfront.Stock()
    page = shopfront.Page(
        shopfront.Sessions(),
        catalogue,
        prices,
        stock,
        shopfront.Opinions(),
        shopfront.Recommendations(),
        shopfront.Cart(catalogue, prices),
        shopfront.Shipping(stock),
        shopfront.Ads(),
    )
    return page.http()


async def body(app: Any) -> bytes:
    """Of the page, from an ASGI app."""
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://shop") as http:
        answer = await http.get(PATH)
    answer.raise_for_status()
    return answer.content


async def test_plain_classes_and_an_application_give_the_same_page(shopfront: Any):
    expected = await body(plain(shopfront))
    assert expected.count(b"<li>") == 3 + 3 + 4  # cart, deliveries, similar products
    assert await body(shopfront.app.asgi()) == expected

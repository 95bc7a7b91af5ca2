"""A customer of the shop: what a person does in a browser, with plain HTTP."""

import re
from html import unescape

import httpx
from shop.catalog import ProductId

PASSWORD = "correct horse battery"
APPROVED, DECLINED, NO_FUNDS = "4242 4242 4242 4242", "4000 0000 0000 0002", "4000 0000 0000 9995"
BANK_BROKEN, SLOW, CAPTURE_BROKEN = "4000 0000 0000 0119", "4000 0000 0000 3220", "4000 0000 0000 0341"
MUG, VASE = ProductId("fjord-mug"), ProductId("moss-vase")


class Customer:
    """Follows links and sends the forms of the pages, with whatever hidden fields these carry."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http
        self.last: httpx.Response

    async def get(self, path: str) -> str:
        self.last = await self.http.get(path)
        return self.last.text

    async def send(self, action: str, **fields: str) -> str:
        """Fill in the form of the last page that goes to `action`, and send it."""
        self.last = await self.http.post(action, data={**self.hidden(action), **fields})
        return self.last.text

    def hidden(self, action: str) -> dict[str, str]:
        form = re.search(rf'<form[^>]*action="{re.escape(action)}".*?</form>', self.last.text, re.DOTALL)
        assert form, f"no form goes to {action} on {self.last.url}:\n{self.last.text}"
        inputs = re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', form[0])
        return {name: unescape(value) for name, value in inputs}

    async def signs_up(self, email: str = "ada@example.com") -> None:
        await self.get("/sign-up")
        page = await self.send("/sign-up", name="Ada", email=email, password=PASSWORD)
        assert "Sign out" in page

    async def adds(self, product: str = MUG, quantity: int = 1) -> None:
        await self.get(f"/products/{product}")
        page = await self.send("/cart/add", quantity=str(quantity))
        assert "is in your cart" in page

    async def pays(self, number: str = APPROVED, **other: str) -> str:
        await self.get("/checkout")
        return await self.send("/checkout", **self.filled(number, **other))

    @staticmethod
    def filled(number: str = APPROVED, **other: str) -> dict[str, str]:
        address = {"name": "Ada Byron", "street": "12 St James's Square", "postcode": "SW1Y 4JH", "city": "London"}
        return {**address, "number": number, "expiry": "12/40", "code": "123", **other}

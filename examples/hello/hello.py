"""The smallest application: a component that greets, and one that serves pages with it."""

from typing import Any

from fissile import Application, component, method


@component
class Hello:
    """Greets."""

    @method(idempotent=True)
    async def greet(self, name: str) -> str:
        """A greeting for somebody."""
        return f"Hello, {name}!"


@component
class Web:
    """Says hello over HTTP, at /NAME."""

    def __init__(self, hello: Hello) -> None:
        self.hello = hello

    def http(self) -> Any:
        """The ASGI app."""

        async def app(scope: Any, receive: Any, send: Any) -> None:
            text = await self.hello.greet(scope["path"].strip("/") or "world")
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
            await send({"type": "http.response.body", "body": text.encode()})

        return app


app = Application(Web, Hello, name="hello")

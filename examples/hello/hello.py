"""The smallest application: one component with one method."""

from fissile import Application, component


@component
class Hello:
    """Greets."""

    async def greet(self, name: str) -> str:
        """A greeting for the name."""
        return f"Hello, {name}!"


app = Application(Hello, name="hello")

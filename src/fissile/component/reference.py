"""What a caller holds in place of its callee: an object whose methods are generated, with the original signatures.

Where the callee is decides what the functions do: `wiring` fills them in for one in this process, `fissile.rpc` for
one in another. The context of a call and the errors of one whose time is up are the same for both.
"""

from collections.abc import Callable
from functools import lru_cache
from types import CodeType
from typing import Any

from fissile.component.context import CallContext
from fissile.component.interface import Interface, Method
from fissile.errors import DeadlineExceeded


class Ref:
    """A reference to a component. Its methods are those of the component's interface."""

    def __init__(self, interface: Interface) -> None:
        self._interface = interface

    def __getattr__(self, name: str) -> Any:
        known = ", ".join(self.__dict__["_interface"].methods) or "none"
        raise AttributeError(
            f"{self.__dict__['_interface'].name} has no API method {name!r}; its methods are: {known}. "
            "Only public `async def` methods can be called through a reference"
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} to {self._interface.name}>"


def nested(outer: CallContext | None, now: float, timeout: float, bits: Callable[[int], int]) -> CallContext:
    """The context of a call within another: its trace, and the earlier of both deadlines."""
    deadline = now + timeout
    if outer is None:
        return CallContext(bits(128) or 1, bits(64) or 1, False, "", deadline, timeout)
    if outer.deadline < deadline:
        deadline = outer.deadline
    return CallContext(outer.trace_id, outer.span_id, outer.sampled, outer.release, deadline, timeout)


def exceeded(origin: str, timeout: float) -> DeadlineExceeded:
    """The error for a call whose time ran out."""
    return DeadlineExceeded(
        f"{origin} did not answer within its {timeout:g} s",
        origin=origin,
        remedy="look for what it waits on, or give it more time with @method(timeout=...)",
    )


def not_begun(origin: str) -> DeadlineExceeded:
    """The error for a call that was asked for when the time of what it belongs to was up."""
    return DeadlineExceeded(
        f"{origin} was not called: the time of the call that it would be part of was up",
        origin=origin,
        remedy="look for what took that time; a task that is to outlive the call by which it is begun needs a context "
        "of its own: asyncio.create_task(work(), context=contextvars.Context())",
    )


def signature_source(method: Method) -> tuple[str, str, dict[str, Any]]:
    """The parameters as source, the arguments as source to pass on, and the defaults by name."""
    parameters: list[str] = []
    passed: list[str] = []
    defaults: dict[str, Any] = {}
    starred = False
    for parameter in method.parameters:
        if parameter.keyword_only and not starred:
            parameters.append("*")
            starred = True
        if not parameter.required:
            defaults[f"_default_{parameter.name}"] = parameter.default
        default = "" if parameter.required else f"=_default_{parameter.name}"
        parameters.append(f"{parameter.name}{default}")
        passed.append(f"{parameter.name}={parameter.name}" if parameter.keyword_only else parameter.name)
    return ", ".join(parameters), ", ".join(passed), defaults


@lru_cache(maxsize=4096)
def compiled(source: str, name: str) -> CodeType:
    """Generated source as code. Kept: what a zygote has compiled, its replicas need not compile again."""
    return compile(source, name, "exec")


def generate(template: str, method: Method, names: dict[str, Any]) -> Any:
    """Compile a template with the exact signature of the method."""
    parameters, passed, defaults = signature_source(method)
    values = "".join(f"{parameter.name}, " for parameter in method.parameters)
    source = template.format(name=method.name, parameters=parameters, passed=passed, values=values)
    namespace: dict[str, Any] = {"_method": method, **defaults, **names}
    exec(compiled(source, f"<reference {method.label}>"), namespace)
    function = namespace[method.name]
    function.__qualname__ = method.label
    function.__doc__ = method.doc
    return function

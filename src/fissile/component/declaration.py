"""What authors write: the decorators of components, interfaces and methods, and lazy references.

The decorators only leave a mark on what they decorate: the class itself stays as it was, so it
works undecorated, and undeployed, in a unit test.
"""

import typing
from collections.abc import Callable
from typing import Any, TypeVar, overload

import msgspec

from fissile.errors import DeclarationError

T = TypeVar("T", bound=type)
F = TypeVar("F", bound=Callable[..., Any])
R = TypeVar("R")

MARK = "__fissile__"
# Arguments of `@component` by the names that they had, with those that they have.
RENAMED = {"keeps": "volatile_state"}


class MethodMark(msgspec.Struct, frozen=True):
    """What `@method` was told."""

    timeout: float | None = None
    idempotent: bool = False
    raises: tuple[type[Exception], ...] = ()


class ClassMark(msgspec.Struct, frozen=True):
    """What `@component` or `@interface` was told."""

    kind: str
    name: str
    implements: type | None = None
    raises: tuple[type[Exception], ...] = ()
    volatile_state: str = ""


class Lazy(typing.Generic[R]):
    """A reference that is resolved on first use, so two components may refer to each other.

    Declare it as a constructor parameter, `cart: Lazy[Cart]`. In a unit test, pass `Lazy(lambda: FakeCart())`.
    """

    def __init__(self, resolve: Callable[[], R]) -> None:
        self._resolve = resolve

    def get(self) -> R:
        """Return the reference. Valid only after the application has started."""
        return self._resolve()


@overload
def component(cls: T, /) -> T: ...
@overload
def component(
    *,
    name: str | None = None,
    implements: type | None = None,
    raises: tuple[type[Exception], ...] = (),
    volatile_state: str = "",
) -> Callable[[T], T]: ...
def component(
    cls: type | None = None,
    /,
    *,
    name: str | None = None,
    implements: type | None = None,
    raises: tuple[type[Exception], ...] = (),
    volatile_state: str = "",
    **removed: Any,
) -> Any:
    """Mark a class as a component. Its public `async def` methods become its API.

    The class stays as it is, so unit tests can use it directly. `Application` checks it later, and reports every
    mistake at once.

    Args:
        cls: The class, where the decorator has no arguments.
        name: The component's name. Defaults to the name of the class.
        implements: The `@interface` class through which callers refer to it.
        raises: Exceptions that any of its methods may raise, and that arrive at the caller as themselves.
        volatile_state: What is lost when the component restarts, in words. A deploy that restarts it warns of that.
        removed: Names of arguments that no longer exist. Each is an error that names its successor.

    Raises:
        DeclarationError: An argument has another name now.
        TypeError: An argument never existed.
    """
    for argument in removed:
        if argument not in RENAMED:
            raise TypeError(f"component() got an unexpected keyword argument {argument!r}")
        raise DeclarationError("@component", [f"{argument}= is called {RENAMED[argument]}= now: rename the argument"])

    def mark(target: type) -> type:
        setattr(
            target, MARK, ClassMark("component", name or target.__name__, implements, tuple(raises), volatile_state)
        )
        return target

    return mark if cls is None else mark(cls)


@overload
def interface(cls: T, /) -> T: ...
@overload
def interface(*, name: str | None = None, raises: tuple[type[Exception], ...] = ()) -> Callable[[T], T]: ...
def interface(cls: type | None = None, /, *, name: str | None = None, raises: tuple[type[Exception], ...] = ()) -> Any:
    """Mark a class as an API that another class implements with `@component(implements=...)`.

    Args:
        cls: The class, where the decorator has no arguments.
        name: The interface's name. Defaults to the name of the class.
        raises: Exceptions that any of its methods may raise, and that arrive at the caller as themselves.
    """

    def mark(target: type) -> type:
        setattr(target, MARK, ClassMark("interface", name or target.__name__, None, tuple(raises)))
        return target

    return mark if cls is None else mark(cls)


@overload
def method(function: F, /) -> F: ...
@overload
def method(
    *, timeout: float | None = None, idempotent: bool = False, raises: tuple[type[Exception], ...] = ()
) -> Callable[[F], F]: ...
def method(
    function: Any = None,
    /,
    *,
    timeout: float | None = None,
    idempotent: bool = False,
    raises: tuple[type[Exception], ...] = (),
) -> Any:
    """Set options of a component's method.

    Args:
        function: The method, where the decorator has no arguments.
        timeout: Seconds until the deadline; `math.inf` for none. Defaults to the application's own.
        idempotent: A second execution does no harm, so a call whose connection broke may be repeated.
        raises: Exceptions that arrive at the caller as themselves, with their annotated fields.
    """

    def mark(target: Any) -> Any:
        setattr(target, MARK, MethodMark(timeout, idempotent, tuple(raises)))
        return target

    return mark if function is None else mark(function)


def class_mark(cls: Any) -> ClassMark | None:
    """What the class itself (not a base of it) was marked with."""
    found = vars(cls).get(MARK) if isinstance(cls, type) else None
    return found if isinstance(found, ClassMark) else None

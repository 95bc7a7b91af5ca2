"""The typed methods of a component, each with a fingerprint: its contract.

`read_interface` turns a class into an `Interface`, or lists every mistake in it with its remedy.
The decorators only leave a mark on what they decorate: the class itself stays as it was, so it
works undecorated, and undeployed, in a unit test.
"""

import collections.abc
import copy
import hashlib
import inspect
import typing
from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import Any, TypeVar, overload

import msgspec

from fissile.component.constructor import attributes_set
from fissile.component.defaults import arriving, misfit, record_misfits
from fissile.component.offsets import Prepare, preparer, preparer_of_all
from fissile.component.values import describe, essence, is_immutable, unsupported
from fissile.errors import CALL_ERRORS

T = TypeVar("T", bound=type)
F = TypeVar("F", bound=Callable[..., Any])
R = TypeVar("R")

MARK = "__fissile__"
LIFECYCLE = frozenset({"migrate", "start", "stop", "http"})
_STREAMS = (collections.abc.AsyncIterator, collections.abc.AsyncGenerator, collections.abc.AsyncIterable)
_EMPTY = inspect.Parameter.empty


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
    keeps: str = ""


class Parameter(msgspec.Struct, frozen=True):
    """One parameter of a method. `default` is meaningless where `required`."""

    name: str
    type: Any
    required: bool
    default: Any = None
    keyword_only: bool = False


class Method(msgspec.Struct, frozen=True, eq=False):
    """One method of an interface.

    timeout: seconds, None for the application's default. result: the type of the result, or of
    each item of a stream. request: arguments as an array (the wire's form); body: arguments by name
    (the JSON form). raises: exceptions that arrive as themselves; a subclass must be named too.
    prepare_arguments, prepare_result: applied to a tuple of arguments, and to a result or an item, before it is
    encoded; None where there is nothing to be done.
    """

    component: str
    name: str
    parameters: tuple[Parameter, ...]
    result: Any
    streaming: bool
    timeout: float | None
    idempotent: bool
    raises: tuple[type[Exception], ...]
    fingerprint: str
    request: type[msgspec.Struct]
    body: type[msgspec.Struct]
    immutable_arguments: bool
    immutable_result: bool
    doc: str = ""
    prepare_arguments: Prepare | None = None
    prepare_result: Prepare | None = None

    @property
    def label(self) -> str:
        """Return "Component.method", as errors and telemetry name it."""
        return f"{self.component}.{self.name}"

    def arguments(self, request: msgspec.Struct) -> tuple[Any, ...]:
        """The values of a decoded request or body, in the order of the parameters."""
        return tuple(getattr(request, parameter.name) for parameter in self.parameters)

    def call(self, function: Callable[..., Any], request: msgspec.Struct) -> Any:
        """Call the function with a decoded request's arguments."""
        positional = [getattr(request, p.name) for p in self.parameters if not p.keyword_only]
        named = {p.name: getattr(request, p.name) for p in self.parameters if p.keyword_only}
        return function(*positional, **named)


class Interface(msgspec.Struct, frozen=True, eq=False):
    """The methods through which a component is called."""

    name: str
    methods: dict[str, Method]
    doc: str = ""


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
    keeps: str = "",
) -> Callable[[T], T]: ...
def component(
    cls: type | None = None,
    /,
    *,
    name: str | None = None,
    implements: type | None = None,
    raises: tuple[type[Exception], ...] = (),
    keeps: str = "",
) -> Any:
    """Mark a class as a component. Its public `async def` methods become its API.

    The class stays as it is, so unit tests can use it directly. `Application` checks it later, and reports every
    mistake at once.

    Args:
        cls: The class, where the decorator has no arguments.
        name: The component's name. Defaults to the name of the class.
        implements: The `@interface` class through which callers refer to it.
        raises: Exceptions that any of its methods may raise, and that arrive at the caller as themselves.
        keeps: What the component keeps only in memory, in words. A deploy that restarts it warns that this is lost.
    """

    def mark(target: type) -> type:
        setattr(target, MARK, ClassMark("component", name or target.__name__, implements, tuple(raises), keeps))
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


def read_interface(cls: type) -> tuple[Interface, list[str]]:
    """The interface of a marked class and all mistakes found in it."""
    mark = class_mark(cls)
    owner = mark.name if mark else cls.__name__
    declared = mark.kind == "interface" if mark else False
    methods: dict[str, Method] = {}
    mistakes: list[str] = []
    for name, function in _public_functions(cls):
        told = getattr(function, MARK, None)
        told = told if isinstance(told, MethodMark) else None
        where = f"{owner}.{name}"
        if name in LIFECYCLE or name.startswith("_"):
            if told is not None:
                mistakes.append(_unusable_name(where, name))
            elif name in ("migrate", "start", "stop") and not inspect.iscoroutinefunction(function):
                mistakes.append(f"{where} is a plain `def`: declare it `async def {name}(self) -> None`")
            elif name == "http" and inspect.iscoroutinefunction(function):
                mistakes.append(f"{where} is `async def`: declare it `def http(self)` and return an ASGI app")
            continue
        if not (inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)):
            # A plain public `def` of an adopted class is not API; one that claims to be is a mistake.
            if told is not None or declared:
                mistakes.append(f"{where} is a plain `def`: declare it `async def` so that it can cross a network")
            continue
        found = _read_method(owner, name, function, told or MethodMark(), mark, mistakes)
        if found is not None:
            methods[name] = found
    return Interface(owner, methods, inspect.getdoc(cls) or ""), mistakes


def _unusable_name(where: str, name: str) -> str:
    if name.startswith("_"):
        return f"{where} is private and cannot be an API method: rename it without the underscore"
    return f"{where}: {name!r} is reserved for the component's life cycle: rename the method"


def _public_functions(cls: type) -> list[tuple[str, Any]]:
    found: dict[str, Any] = {}
    for base in reversed(cls.__mro__[:-1]):
        for name, value in vars(base).items():
            if inspect.isfunction(value) and (not name.startswith("_") or hasattr(value, MARK)):
                found[name] = value
            elif name in found and not inspect.isfunction(value):
                del found[name]
    return list(found.items())


def _read_method(
    owner: str, name: str, function: Any, told: MethodMark, mark: ClassMark | None, mistakes: list[str]
) -> Method | None:
    where = f"{owner}.{name}"
    before = len(mistakes)
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except Exception as error:
        mistakes.append(f"{where}: an annotation cannot be resolved ({error}): import the name in this module")
        return None
    parameters = _read_parameters(where, function, hints, mistakes)
    result, streaming = _read_result(where, function, hints, mark, mistakes)
    if told.timeout is not None and not told.timeout > 0:
        mistakes.append(f"{where}: timeout={told.timeout!r} is not a positive number of seconds")
    raises = tuple(dict.fromkeys((*(mark.raises if mark else ()), *told.raises)))
    _check_errors(where, raises, mistakes)
    if len(mistakes) == before:
        for kind in (*(p.type for p in parameters), result, *(h for k in raises for h in error_fields(k).values())):
            found = [f": field {field!r} of {name}: {why}" for name, field, why in record_misfits(kind)]
            # Once, though many methods have the same record.
            mistakes += [where + one for one in found if not any(mistake.endswith(one) for mistake in mistakes)]
    if len(mistakes) > before:
        return None
    doc = inspect.getdoc(function) or ""
    return _make_method(owner, name, parameters, result, streaming, told, raises, doc)


def _read_parameters(where: str, function: Any, hints: dict[str, Any], mistakes: list[str]) -> list[Parameter]:
    parameters: list[Parameter] = []
    for parameter in list(inspect.signature(function).parameters.values())[1:]:
        name = parameter.name
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            mistakes.append(f"{where}: *{name} has no fixed type: name each parameter, or take a tuple or a struct")
            continue
        if name not in hints:
            mistakes.append(f"{where}: parameter {name!r} has no annotation: add its type")
            continue
        why = unsupported(hints[name])
        if why is not None:
            mistakes.append(f"{where}: parameter {name!r} cannot be encoded: {why}: use a msgspec.Struct or builtins")
            continue
        keyword_only = parameter.kind is parameter.KEYWORD_ONLY
        required = parameter.default is _EMPTY
        default = None
        if not required:
            reason = misfit(hints[name], parameter.default)
            if reason:
                mistakes.append(f"{where}: parameter {name!r}: {reason}")
                continue
            # As it arrives: 1 is 1.0 where a float is wanted, and a tuple a list where it is a sequence.
            default = arriving(hints[name], parameter.default)
        parameters.append(Parameter(name, hints[name], required, default, keyword_only))
    return parameters


def _read_result(
    where: str, function: Any, hints: dict[str, Any], mark: ClassMark | None, mistakes: list[str]
) -> tuple[Any, bool]:
    if "return" not in hints:
        mistakes.append(f"{where} has no return annotation: add it (`-> None` where there is no result)")
        return None, False
    result = hints["return"]
    streaming = typing.get_origin(result) in _STREAMS
    if inspect.isasyncgenfunction(function) and not streaming:
        mistakes.append(f"{where} yields, so it is a stream: annotate it `-> AsyncIterator[...]`")
    elif streaming and not inspect.isasyncgenfunction(function) and mark is not None and mark.kind == "component":
        mistakes.append(f"{where} is annotated as a stream but never yields: make it an async generator")
    if streaming:
        arguments = typing.get_args(result)
        result = arguments[0] if arguments else Any
    why = unsupported(result)
    if why is not None:
        mistakes.append(f"{where}: the result cannot be encoded: {why}: return a msgspec.Struct or builtins")
    return result, streaming


def _check_errors(where: str, raises: tuple[Any, ...], mistakes: list[str]) -> None:
    names: dict[str, Any] = {}
    for kind in raises:
        if not (isinstance(kind, type) and issubclass(kind, Exception)):
            mistakes.append(f"{where}: raises={kind!r} is not an exception class")
            continue
        other = names.setdefault(kind.__qualname__, kind)
        if other is not kind:
            places = f"{other.__module__} and {kind.__module__}"
            mistakes.append(
                f"{where}: raises has two errors named {kind.__qualname__} ({places}), and errors travel by name: "
                "give one of them another name"
            )
        try:
            fields = error_fields(kind)
        except Exception as error:
            mistakes.append(f"{where}: an annotation of {kind.__qualname__} cannot be resolved ({error}): import it")
            continue
        for field, hint in fields.items():
            why = unsupported(hint)
            if why is not None:
                mistakes.append(
                    f"{where}: field {field!r} of {kind.__qualname__} cannot be encoded: {why}: use a msgspec.Struct "
                    "or builtins, or a name with an underscore for what is not to travel"
                )
                continue
            default = _field_default(kind, field)
            reason = "" if default is _EMPTY else misfit(hint, default)
            if reason:
                mistakes.append(f"{where}: field {field!r} of {kind.__qualname__}: {reason}")
        for field in unnamed_fields(kind):
            mistakes.append(
                f"{where}: {kind.__qualname__} sets {field!r} in its constructor, but no annotation says its type, so "
                f"that it would not arrive: write `{field}: ...` in the class, or an underscore before the name of "
                "what is not to travel"
            )


def _make_method(
    owner: str,
    name: str,
    parameters: list[Parameter],
    result: Any,
    streaming: bool,
    told: MethodMark,
    raises: tuple[type[Exception], ...],
    doc: str,
) -> Method:
    fields = [_struct_field(parameter) for parameter in parameters]
    title = f"{owner}_{name}"
    request = msgspec.defstruct(f"{title}_request", fields, array_like=True, frozen=True, kw_only=True)
    body = msgspec.defstruct(f"{title}_body", fields, frozen=True, kw_only=True, forbid_unknown_fields=True)
    contract = [
        name,
        [[p.name, describe(p.type), p.required] for p in parameters],
        describe(result),
        streaming,
        sorted((describe_error(kind) for kind in raises), key=lambda one: one[0]),
    ]
    digest = hashlib.sha256(msgspec.json.encode(essence(contract), order="deterministic")).hexdigest()
    return Method(
        component=owner,
        name=name,
        parameters=tuple(parameters),
        result=result,
        streaming=streaming,
        timeout=told.timeout,
        idempotent=told.idempotent,
        raises=raises,
        fingerprint=digest[:16],
        request=request,
        body=body,
        immutable_arguments=all(is_immutable(p.type) for p in parameters),
        immutable_result=is_immutable(result),
        doc=doc,
        prepare_arguments=preparer_of_all([p.type for p in parameters]),
        prepare_result=preparer(result),
    )


def _struct_field(parameter: Parameter) -> Any:
    if parameter.required:
        return (parameter.name, parameter.type)
    default = parameter.default
    if is_immutable(parameter.type) or default is None:
        return (parameter.name, parameter.type, default)
    return (parameter.name, parameter.type, msgspec.field(default_factory=lambda: copy.deepcopy(default)))


_NATIVE_FIELDS: dict[type[Exception], tuple[str, ...]] = {
    OSError: ("errno", "strerror", "filename", "filename2"),
    ImportError: ("msg", "name", "path"),
    StopIteration: ("value",),
    NameError: ("name",),
    AttributeError: ("name",),
    SyntaxError: ("msg", "filename", "lineno", "offset", "text", "end_lineno", "end_offset"),
    UnicodeDecodeError: ("encoding", "object", "start", "end", "reason"),
    UnicodeEncodeError: ("encoding", "object", "start", "end", "reason"),
    UnicodeTranslateError: ("object", "start", "end", "reason"),
}


@lru_cache(maxsize=4096)
def error_fields(kind: type[Exception]) -> dict[str, Any]:
    """The fields of a declared exception: those that travel, with their types.

    Named are they by an annotation of its class (but for class variables), or by that of a parameter which its
    constructor keeps as it is: `def __init__(self, what: str): self.what = what`.
    """
    if kind in CALL_ERRORS.values():  # they have a form of their own
        return {}
    hints = typing.get_type_hints(kind)
    inferred: dict[str, Any] = {}
    for base in _authors_bases(kind):
        kept = {name: p for name, p in attributes_set(base).items() if p is not None and p.annotation is not _EMPTY}
        wanted = {name: p for name, p in kept.items() if name not in hints and name != "args"}
        if wanted:
            of_parameters = typing.get_type_hints(vars(base)["__init__"])
            inferred |= {name: of_parameters[parameter.name] for name, parameter in wanted.items()}
    found = {
        name: hint for name, hint in (inferred | hints).items() if not name.startswith("_") and not _of_class(hint)
    }
    return dict.fromkeys(native_fields(kind), Any) | found


def unnamed_fields(kind: type[Exception]) -> list[str]:
    """What its constructor sets, but no annotation names: it would not travel."""
    known = {*error_fields(kind), *typing.get_type_hints(kind), "args"}
    names = [name for base in _authors_bases(kind) for name in attributes_set(base)]
    return [name for name in dict.fromkeys(names) if name not in known and not name.startswith("_")]


def _field_default(kind: type[Exception], field: str) -> Any:
    """What a field is where nobody says otherwise: by its constructor's parameter, or its class; else empty."""
    for base in reversed(_authors_bases(kind)):
        parameter = attributes_set(base).get(field)
        if parameter is not None:
            return parameter.default
    value = getattr(kind, field, _EMPTY)
    return _EMPTY if hasattr(value, "__get__") else value


def _authors_bases(kind: type) -> list[type]:
    """The class and its bases as authors have written them, the most general first."""
    return [base for base in reversed(kind.__mro__) if base.__module__ != "builtins"]


def native_fields(kind: type[Exception]) -> tuple[str, ...]:
    """What Python itself keeps in such an exception beside its `args`. None stands for what is not set."""
    return next((names for base, names in _NATIVE_FIELDS.items() if issubclass(kind, base)), ())


def _of_class(hint: Any) -> bool:
    return hint is typing.ClassVar or typing.get_origin(hint) is typing.ClassVar


def describe_error(kind: type[Exception]) -> list[Any]:
    """A declared exception as plain data, for the contract."""
    return [kind.__qualname__, [[name, describe(hint)] for name, hint in sorted(error_fields(kind).items())]]


def mismatches(declared: Interface, implementation: Interface) -> list[str]:
    """Why the implementation does not fit the declared interface, each with its remedy."""
    mistakes: list[str] = []
    for name, wanted in declared.methods.items():
        where = f"{implementation.name}.{name}"
        given = implementation.methods.get(name)
        if given is None:
            mistakes.append(f"{where} is missing: {declared.name} declares it, so implement it")
            continue
        shape_wanted = [(p.name, essence(describe(p.type))) for p in wanted.parameters]
        shape_given = [(p.name, essence(describe(p.type))) for p in given.parameters]
        result_wanted, result_given = essence(describe(wanted.result)), essence(describe(given.result))
        if shape_wanted != shape_given:
            mistakes.append(f"{where}: its parameters differ from {declared.name}.{name}: give both the same")
        elif result_wanted != result_given or wanted.streaming != given.streaming:
            mistakes.append(f"{where}: its result differs from {declared.name}.{name}: give both the same")
    return mistakes


Unary = Callable[..., Awaitable[Any]]

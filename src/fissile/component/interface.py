"""The typed methods of a component, each with a fingerprint: its contract.

`read_interface` turns a class that was marked (`declaration`) into an `Interface`, or lists every mistake in it
with its remedy.
"""

import collections.abc
import copy
import hashlib
import inspect
import typing
from collections.abc import Callable
from typing import Any

import msgspec

from fissile.component.declaration import MARK, ClassMark, MethodMark, class_mark
from fissile.component.declared_errors import describe_error, error_fields, error_mistakes
from fissile.component.defaults import arriving, misfit, record_misfits
from fissile.component.offsets import Prepare, preparer, preparer_of_all
from fissile.component.values import describe, essence, is_immutable, unsupported

LIFECYCLE = frozenset({"migrate", "start", "stop", "http"})
_STREAMS = (collections.abc.AsyncIterator, collections.abc.AsyncGenerator, collections.abc.AsyncIterable)
_EMPTY = inspect.Parameter.empty


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
    mistakes += error_mistakes(where, raises)
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

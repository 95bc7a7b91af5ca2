"""What a caller holds when its callee is in the same process: a reference that is nearly a plain call.

A `Ref` keeps every promise of a remote call: by value, typed errors, a deadline. It pays only for
what a call needs: immutable values are not copied; a deadline is set up only where it is shorter than
the one already in force; counting is left out where nothing observes. Each method is generated with
the exact signature of the original, because `*args` would cost more than everything else here.
The clock and the deadline's enforcement come in as arguments: this room does no I/O.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from functools import lru_cache
from types import CodeType
from typing import Any, Protocol

import msgspec

from fissile.component.context import CallContext, call_context
from fissile.component.failure import invalid_argument, translate
from fissile.component.interface import Interface, Method
from fissile.errors import CallError

DEFAULT_TIMEOUT_SECONDS = 10.0
HISTOGRAM_BUCKETS = 64
# Layout of a method's cells: a bucket per power of two of nanoseconds, then sum and failures.
CELL_SUM_NS = HISTOGRAM_BUCKETS
CELL_FAILURES = HISTOGRAM_BUCKETS + 1
CELLS = HISTOGRAM_BUCKETS + 2


class Enforce(Protocol):
    """Runs a coroutine under a context: cancelled at its deadline, which then is DeadlineExceeded."""

    def __call__(self, coroutine: Awaitable[Any], context: CallContext, origin: str) -> Awaitable[Any]: ...


class Environment(msgspec.Struct, frozen=True):
    """What local references need of the world.

    clock: seconds, monotonic. clock_ns: nanoseconds, monotonic. bits: random number of n bits.
    observe: the cells in which a (component, method) counts, or None where nothing observes.
    witness: told of every exception that no method declares, where it was raised: method and type.
    copy_always: copy immutable values too (the `copied` runner: it proves that they can be).
    """

    clock: Callable[[], float]
    clock_ns: Callable[[], int]
    bits: Callable[[int], int]
    enforce: Enforce
    observe: Callable[[str, str], list[int]] | None = None
    witness: Callable[[str, str], None] | None = None
    copy_always: bool = False
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS


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


def child_context(environment: Environment, timeout: float) -> CallContext:
    """The context of a nested call: the caller's trace, and the earlier of both deadlines."""
    outer = call_context.get()
    deadline = environment.clock() + timeout
    if outer is None:
        return CallContext(environment.bits(128) or 1, environment.bits(64) or 1, False, "", deadline, timeout)
    if outer.deadline < deadline:
        deadline = outer.deadline
    return CallContext(outer.trace_id, outer.span_id, outer.sampled, outer.release, deadline, timeout)


def local_reference(interface: Interface, instance: Any, environment: Environment) -> Ref:
    """A reference to a component in this process."""
    reference = Ref(interface)
    for name, method in interface.methods.items():
        vars(reference)[name] = _local_method(method, getattr(instance, name), environment)
    return reference


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


# An error is raised outside of `except`, so that it has no context, and its name is deleted: a frame that
# holds an exception which holds the frame would wait for the garbage collector.
_PLAIN = """
async def {name}({parameters}):
    try:
        _context = _get_context()
        if _context is None or _context.timeout > _timeout:
            return await _slow(({values}))
        return await _function({passed})
    except Exception as _error:
        _failure = _translate(_error, _method)
    try:
        raise _failure
    finally:
        del _failure
"""

_OBSERVED = """
async def {name}({parameters}):
    _started = _clock_ns()
    try:
        _context = _get_context()
        if _context is None or _context.timeout > _timeout:
            _result = await _slow(({values}))
        else:
            _result = await _function({passed})
    except BaseException as _error:
        _cells[65] += 1
        if not isinstance(_error, Exception):
            raise
        _failure = _translate(_error, _method)
    else:
        return _result
    finally:
        _elapsed = _clock_ns() - _started
        _cells[_elapsed.bit_length()] += 1
        _cells[64] += _elapsed
    try:
        raise _failure
    finally:
        del _failure
"""

_STREAM = """
def {name}({parameters}):
    return _open(({values}))
"""


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


def _local_method(method: Method, function: Any, environment: Environment) -> Any:
    copier = Copier(method, environment.copy_always)
    timeout = environment.timeout_seconds if method.timeout is None else method.timeout
    call = copier.wrap(function)
    if method.streaming:
        return generate(_STREAM, method, {"_open": _stream_opener(method, call, environment, timeout)})

    async def slow(values: tuple[Any, ...]) -> Any:
        context = child_context(environment, timeout)
        return await environment.enforce(call_values(method, call, values), context, method.label)

    names: dict[str, Any] = {
        "_get_context": call_context.get,
        "_timeout": timeout,
        "_slow": slow,
        "_function": call,
        "_translate": _translator(environment.witness),
    }
    if environment.observe is None:
        return generate(_PLAIN, method, names)
    names |= {"_clock_ns": environment.clock_ns, "_cells": environment.observe(method.component, method.name)}
    return generate(_OBSERVED, method, names)


def _translator(witness: Callable[[str, str], None] | None) -> Callable[[Exception, Method], Exception]:
    if witness is None:
        return translate

    def translated(error: Exception, method: Method) -> Exception:
        if not isinstance(error, CallError) and type(error) not in method.raises:
            witness(method.label, type(error).__name__)
        return translate(error, method)

    return translated


def call_values(method: Method, function: Callable[..., Any], values: tuple[Any, ...]) -> Any:
    """Call with values in the order of the method's parameters."""
    if not any(parameter.keyword_only for parameter in method.parameters):
        return function(*values)
    pairs = list(zip(method.parameters, values, strict=True))
    positional = [value for parameter, value in pairs if not parameter.keyword_only]
    return function(*positional, **{p.name: value for p, value in pairs if p.keyword_only})


def _as_it_is(value: Any) -> Any:
    return value


class Copier:
    """Copies what a caller or callee could mutate, through the codec of a remote call."""

    def __init__(self, method: Method, always: bool) -> None:
        self.method = method
        self.arguments = always or not method.immutable_arguments
        self.result = always or not method.immutable_result
        self._encode = msgspec.msgpack.Encoder().encode
        self._prepare_arguments = method.prepare_arguments or _as_it_is
        self._prepare_result = method.prepare_result or _as_it_is
        self._decode_request = msgspec.msgpack.Decoder(method.request).decode
        self._decode_result = msgspec.msgpack.Decoder(method.result).decode

    def copy_arguments(self, values: tuple[Any, ...]) -> tuple[Any, ...]:
        """Equal arguments that share nothing mutable. Raises InvalidArgument where they do not fit."""
        try:
            return self.method.arguments(self._decode_request(self._encode(self._prepare_arguments(values))))
        except (TypeError, ValueError, OverflowError) as error:
            raise invalid_argument(error, self.method) from None

    def copy_result(self, value: Any) -> Any:
        """An equal result that shares nothing mutable."""
        return self._decode_result(self._encode(self._prepare_result(value)))

    def wrap(self, function: Any) -> Any:
        """The function with copies made where they are needed; itself where none are."""
        method = self.method
        if not (self.arguments or self.result):
            return function
        if method.streaming:

            async def items(*positional: Any, **named: Any) -> AsyncIterator[Any]:
                values = bind(method, positional, named)
                if self.arguments:
                    values = self.copy_arguments(values)
                stream = call_values(method, function, values)
                try:
                    async for item in stream:
                        yield self.copy_result(item) if self.result else item
                finally:
                    await stream.aclose()

            return items

        async def call(*positional: Any, **named: Any) -> Any:
            values = bind(method, positional, named)
            if self.arguments:
                values = self.copy_arguments(values)
            result = await call_values(method, function, values)
            return self.copy_result(result) if self.result else result

        return call


def bind(method: Method, positional: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, ...]:
    """Arguments in the order of the parameters; generated callers always give all of them."""
    return (*positional, *(named[p.name] for p in method.parameters[len(positional) :]))


def _stream_opener(
    method: Method, function: Any, environment: Environment, timeout: float
) -> Callable[[tuple[Any, ...]], AsyncIterator[Any]]:
    translated = _translator(environment.witness)

    async def items(values: tuple[Any, ...]) -> AsyncIterator[Any]:
        # A stream's deadline bounds the whole of it; each wait for an item runs under it, and the
        # context is in force only meanwhile, so that it never leaks into the consumer.
        context = child_context(environment, timeout)
        stream = call_values(method, function, values)
        try:
            while True:
                try:
                    item = await environment.enforce(anext(stream), context, method.label)
                except StopAsyncIteration:
                    return
                except Exception as error:
                    failure = translated(error, method)
                else:
                    yield item
                    continue
                try:
                    raise failure
                finally:
                    del failure
        finally:
            await stream.aclose()

    return items


def unavailable_reference(interface: Interface, make_error: Callable[[str], CallError]) -> Ref:
    """A reference whose every call fails: a callee that is known to be down."""
    reference = Ref(interface)
    for method in interface.methods.values():
        vars(reference)[method.name] = generate(_FAILING, method, {"_make_error": make_error})
    return reference


_FAILING = """
async def {name}({parameters}):
    raise _make_error(_method.label)
"""

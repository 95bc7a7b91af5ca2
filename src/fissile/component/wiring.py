"""Calls within one process: what a reference to a component there adds to a plain call.

A `Ref` keeps every promise of a remote call: by value, typed errors, a deadline, a context of the callee's own. It
pays only for what a call needs: immutable values are not copied; a deadline is set up only where it is shorter than
the one already in force; counting is left out where nothing observes; whether the callee left something in its
caller's context is looked at after the call, and undone. Each method is generated with the exact signature of the
original, because `*args` would cost more than everything else here.
The clock, the watch over deadlines and what is done later come in as arguments: this room does no I/O.
"""

from collections.abc import AsyncIterator, Callable
from contextvars import Context, Token, copy_context
from typing import Any, Protocol

import msgspec

from fissile.component import stepping, survival
from fissile.component.context import CallContext, call_context
from fissile.component.copying import Copier, bind, call_values
from fissile.component.failure import translate
from fissile.component.interface import Interface, Method
from fissile.component.reference import Ref, exceeded, generate, nested, not_begun
from fissile.component.variables import Variables
from fissile.errors import CallError, DeadlineExceeded, InvalidArgument

DEFAULT_TIMEOUT_SECONDS = 10.0
HISTOGRAM_BUCKETS = 64
# Layout of a method's cells: a bucket per power of two of nanoseconds, then sum and failures.
CELL_SUM_NS = HISTOGRAM_BUCKETS
CELL_FAILURES = HISTOGRAM_BUCKETS + 1
CELLS = HISTOGRAM_BUCKETS + 2
# So many first calls of a method run in a context of their own, and their values are looked at where somebody wants a
# report; then those whose clock says so by chance: one in SAMPLE. A look that took long is followed by a pause of
# SAMPLE_PAUSE times its duration.
FIRST_CALLS = 3
SAMPLE = 1024
SAMPLE_PAUSE = 200.0


class Watch(stepping.Watch, Protocol):
    """Watches over a task while it waits for one call, or for one stream: past the deadline it is cancelled.

    open: the watches that count; one whose time has not run out may simply leave them.
    """

    token: Token[CallContext | None]
    open: "set[Any]"

    def end(self) -> bool:
        """Watch no more, and take the cancellation back. Whether the time had run out."""
        ...

    def cancelled(self) -> bool:
        """Whether somebody else has cancelled the task meanwhile."""
        ...


class Environment(msgspec.Struct, frozen=True):
    """What local references need of the world.

    clock: seconds, monotonic. clock_ns: nanoseconds, monotonic. bits: random number of n bits.
    entering: for a timeout (seconds), what begins a call that needs a deadline of its own: it sets the context of the
    call, and watches over the current task; the second argument makes the error for a call whose time is up already.
    watch: over a stream, which begins and pauses, until a deadline (seconds of the clock). cancellation: the exception
    by which a task is cancelled. cancelling: whether the current task is being cancelled. later: calls a function once
    the current task waits or ends.
    observe: the cells in which a (component, method) counts, or None where nothing observes.
    on_undeclared_error: told of every exception that no method declares, where it was raised: method and type.
    report: told once a method what would be different with its callee in another process: method and a sentence. None
    where nobody wants to know.
    copy_always: every value and every context pass as they would to another process (the `copied` runner).
    """

    clock: Callable[[], float]
    clock_ns: Callable[[], int]
    bits: Callable[[int], int]
    entering: Callable[[float, Callable[[], Exception]], Callable[[CallContext | None], Watch]]
    watch: Callable[[float], Watch]
    cancellation: type[BaseException]
    cancelling: Callable[[], bool]
    later: Callable[..., object]
    observe: Callable[[str, str], list[int]] | None = None
    on_undeclared_error: Callable[[str, str], None] | None = None
    report: Callable[[str, str], None] | None = None
    copy_always: bool = False
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS


class Surroundings:
    """What callees in one process find in their context beside the call itself.

    variables: those that travel with a call. base: what every callee would see in a process of its own: as it was when
    the components had been started. told: what was reported already, as method and kind.
    """

    def __init__(self, variables: Variables | None = None) -> None:
        self.variables = variables or Variables()
        self.base = copy_context()
        self.told: set[tuple[str, str]] = set()

    def settle(self) -> None:
        """From now on the base is the current context."""
        self.base = copy_context()

    def of_callee(self, origin: str) -> Context:
        """What a callee in another process would see of the current context. Raises InvalidArgument."""
        values = self.variables.unpack(self.variables.pack(origin))
        context = self.base.copy()
        context.run(call_context.set, call_context.get())
        context.run(self.variables.apply, values)
        return context

    def strangers(self) -> list[str]:
        """The variables of the current context that a callee in another process would not see, by name."""
        own = self.variables.by_name.values()
        return sorted(v.name for v in stepping.changed(self.base, copy_context()) if v not in own)


def child_context(environment: Environment, timeout: float) -> CallContext:
    """The context of a call from here: the current trace, and the earlier of both deadlines."""
    return nested(call_context.get(), environment.clock(), timeout, environment.bits)


def local_reference(
    interface: Interface, instance: Any, environment: Environment, surroundings: Surroundings | None = None
) -> Ref:
    """A reference to a component in this process."""
    reference = Ref(interface)
    surroundings = surroundings or Surroundings()
    for name, method in interface.methods.items():
        local = LocalMethod(method, getattr(instance, name), environment, surroundings)
        vars(reference)[name] = local.stream() if method.streaming else local.call()
    return reference


# A call within a context whose time is not up, and not longer than the method's own, goes straight to the callee. (It
# is up in a task that outlives its call, or where a callee did not let go of the loop.) What is not worth a line here
# (a deadline of its own, an error, a leak) is done by the LocalMethod.
_CALL = """
async def {name}({parameters}):
{begin}    _context = _get_context()
    if _context is None or _context.timeout > _timeout or _context.deadline <= _clock():
        _watch = _enter(_context)
    else:
        _watch = None
    _before = _copy_context()
    try:
        _result = await _function({passed})
    except BaseException as _error:
        _failure = _failed(_error, _before, _watch)
{failed}        if _failure is None:
            raise
    else:
{done}        try:
            _same = _copy_context() == _before
            if _same and _watch is None:
                return _result
        except Exception:  # of a class that cannot be compared
            _same = False
        _failure = _left(_before, _watch, _same)
        if _failure is None:
            return _result
{late}    try:
        raise _failure
    finally:
        del _failure  # its traceback holds this frame
"""
_BEGIN = """\
    _started = _clock_ns()
"""
_COUNT = """\
        _elapsed = _clock_ns() - _started
        _cells[_elapsed.bit_length()] += 1
        _cells[64] += _elapsed
"""
_FAILED = """\
        _cells[65] += 1
"""
_SAMPLE = """\
        if not _started % {sample}:
            _sampled(({values}), _result)
"""

_STREAM = """
def {name}({parameters}):
    return _open(({values}))
"""


class LocalMethod:
    """One method of a component in this process, as its references call it."""

    def __init__(self, method: Method, function: Any, environment: Environment, surroundings: Surroundings) -> None:
        self.method = method
        self.environment = environment
        self.surroundings = surroundings
        self.timeout = environment.timeout_seconds if method.timeout is None else method.timeout
        self.function = Copier(method, environment.copy_always).wrap(function)
        self.cells = None if environment.observe is None else environment.observe(method.component, method.name)
        self._clock, self._watch = environment.clock, environment.watch
        self.leaks = False
        self.sampling = environment.report is not None and not environment.copy_always
        self._first = FIRST_CALLS
        self._rest_until = 0.0
        self._names: dict[str, Any] = {}

    def call(self) -> Any:
        """The function of a reference, for a method that answers once."""
        environment = self.environment
        straight = self._isolated if environment.copy_always else self._early
        names = {
            "_get_context": call_context.get,
            "_copy_context": copy_context,
            "_reset_context": call_context.reset,
            "_clock_ns": environment.clock_ns,
            "_cells": self.cells,
            "_timeout": self.timeout,
            "_clock": environment.clock,
            "_enter": environment.entering(self.timeout, self._late),
            "_failed": self.failed,
            "_left": self.left,
            "_sampled": self.sampled,
            "_function": straight,
        }
        count = "" if self.cells is None else _COUNT
        template = (
            _CALL.replace("{begin}", _BEGIN if count or self.sampling else "")
            .replace("{failed}", count and _FAILED + count)
            .replace("{done}", count + (_SAMPLE.replace("{sample}", str(SAMPLE)) if self.sampling else ""))
            .replace("{late}", count and _FAILED)
        )
        generated = generate(template, self.method, names)
        self._names = generated.__globals__
        return generated

    def stream(self) -> Any:
        """The function of a reference, for a method that answers with a stream."""
        return generate(_STREAM, self.method, {"_open": self._items})

    def _late(self) -> DeadlineExceeded:
        """A call whose time was up before it began."""
        if self.cells is not None:
            self.cells[CELL_FAILURES] += 1
        return not_begun(self.method.label)

    def left(self, before: Context, watch: Watch | None, same: bool) -> BaseException | None:
        """After a call that has answered: an error that its caller gets instead. same: it changed no variable."""
        if not same:
            self._undo(before)
        if watch is None:
            return None
        call_context.reset(watch.token)
        if not watch.end():
            return None
        if watch.cancelled():
            return self.environment.cancellation()
        return exceeded(self.method.label, self.timeout)

    def failed(self, error: BaseException, before: Context, watch: Watch | None) -> BaseException | None:
        """After a call that has failed: what its caller gets; None for the very same."""
        self._undo(before)  # seldom anything; an error costs more than looking
        environment = self.environment
        late = False
        if watch is not None:
            call_context.reset(watch.token)
            late = watch.end()
        if isinstance(error, GeneratorExit):
            return None
        cancellation = environment.cancellation
        if late or isinstance(error, cancellation):
            cancelled = environment.cancelling() if watch is None else watch.cancelled()
            if cancelled:
                return None if isinstance(error, cancellation) else cancellation()
        found = exceeded(self.method.label, self.timeout) if late else self.translated(error)
        return found.with_traceback(error.__traceback__)

    def translated(self, error: BaseException) -> Exception:
        """What a caller in another process would get."""
        method, on_undeclared_error = self.method, self.environment.on_undeclared_error
        if on_undeclared_error is not None and not isinstance(error, CallError) and type(error) not in method.raises:
            on_undeclared_error(method.label, type(error).__name__)
        return translate(error, method)

    def _undo(self, before: Context) -> None:
        found, stay = stepping.undo(before)
        if found:
            self._leaked()
        if stay:
            listed = ", ".join(sorted(variable.name for variable in stay))
            self._tell("leak", f"left {listed} set for its caller, once, as no other process could: give it a default")

    def _leaked(self) -> None:
        """It sets variables that its caller would see: from now on it runs in a context of its own."""
        self.leaks = True
        self._names["_function"] = self._apart

    async def _isolated(self, *positional: Any, **named: Any) -> Any:
        """As in another process: of its caller's context the callee sees what travels."""
        return await stepping.apart(self.surroundings.of_callee(self.method.label), self.function(*positional, **named))

    async def _apart(self, *positional: Any, **named: Any) -> Any:
        return await stepping.apart(copy_context(), self.function(*positional, **named))

    async def _early(self, *positional: Any, **named: Any) -> Any:
        """One of the first calls: in a context of its own, and looked at."""
        self._first -= 1
        if self._first <= 0 and not self.leaks:
            self._names["_function"] = self.function
        if self.sampling:
            self._look_around()
        before = copy_context()
        context = before.copy()
        try:
            result = await stepping.apart(context, self.function(*positional, **named))
        finally:
            if stepping.changed(before, context):
                self._leaked()
        if self.sampling:
            self.sampled(bind(self.method, positional, named), result)
        return result

    def _look_around(self) -> None:
        """What does the callee see that it would not see in another process, and what would not get there?"""
        strangers = self.surroundings.strangers()
        if strangers:
            listed = ", ".join(strangers)
            self._tell(
                "context",
                f"can see {listed} in its caller's context, and could not from another process: name what it needs in "
                "Application(context=[...])",
            )
        try:
            self.surroundings.variables.collect()
        except InvalidArgument as error:
            self._tell("variable", error.message)

    def sampled(self, values: tuple[Any, ...], result: Any) -> None:
        """Have the values of a call looked at, when nobody waits for it."""
        told = (self.method.label, "types") in self.surroundings.told
        if not told and self.environment.clock() >= self._rest_until:
            self.environment.later(self._look_at, values, result)

    def _look_at(self, values: tuple[Any, ...], result: Any) -> None:
        begun = self.environment.clock()
        if begun < self._rest_until:
            return
        method = self.method
        why = survival.of_arguments(method, values) if method.immutable_arguments else None
        if why is None and method.immutable_result:
            why = survival.of_result(method, result)
        if why is not None:
            self._tell("types", why)
        ended = self.environment.clock()
        self._rest_until = ended + (ended - begun) * SAMPLE_PAUSE

    def _tell(self, kind: str, sentence: str) -> None:
        report, label, told = self.environment.report, self.method.label, self.surroundings.told
        if report is not None and (label, kind) not in told:
            told.add((label, kind))
            report(label, sentence)

    async def _items(self, values: tuple[Any, ...]) -> AsyncIterator[Any]:
        """The stream, as its consumer holds it.

        Its deadline bounds the whole of it. The callee's steps run in a context of their own, as it was when the
        first item was asked for.
        """
        environment = self.environment
        now = environment.clock()
        call = nested(call_context.get(), now, self.timeout, environment.bits)
        if call.deadline <= now:
            raise not_begun(self.method.label)
        look = self.sampling and (self._first > 0 or not environment.clock_ns() % SAMPLE)
        self._first -= 1
        if look:
            self._look_around()
        context = self.surroundings.of_callee(self.method.label) if environment.copy_always else copy_context()
        context.run(call_context.set, call)
        watch = environment.watch(call.deadline)
        stream = context.run(call_values, self.method, self.function, values)
        try:
            while not watch.expired:
                try:
                    item = await stepping.apart_watched(context, stream.__anext__(), watch)
                except StopAsyncIteration:
                    if watch.expired:  # it was cancelled, and ended as if it had not been
                        break
                    return
                except BaseException as error:
                    failure = self._stream_failed(error, watch)
                    if failure is None:
                        raise
                else:
                    if watch.expired:
                        break
                    if look:
                        look = False
                        self.sampled(values, item)
                    yield item
                    continue
                try:
                    raise failure
                finally:
                    del failure  # its traceback holds this frame
            raise exceeded(self.method.label, self.timeout)
        finally:
            await self._close(context, stream, watch)

    def _stream_failed(self, error: BaseException, watch: Watch) -> BaseException | None:
        if isinstance(error, GeneratorExit):
            return None
        cancellation = self.environment.cancellation
        if (watch.expired or isinstance(error, cancellation)) and watch.cancelled():
            return None if isinstance(error, cancellation) else cancellation()
        found = exceeded(self.method.label, self.timeout) if watch.expired else self.translated(error)
        return found.with_traceback(error.__traceback__)

    async def _close(self, context: Context, stream: Any, watch: Watch) -> None:
        """End the callee's generator: how that goes is its own business, as in another process."""
        try:
            await stepping.apart_watched(context, stream.aclose(), watch)
        except BaseException as error:
            if self._stream_failed(error, watch) is None:
                raise
        finally:
            watch.end()

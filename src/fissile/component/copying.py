"""By value: what a caller or callee could mutate is copied through the codec of a remote call.

So both see the same conversions, and the same errors, as across a wire.
"""

from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec

from fissile.component.failure import invalid_argument
from fissile.component.interface import Method
from fissile.component.pydantic_models import decode_hook
from fissile.component.values import UNDECODABLE, UNENCODABLE
from fissile.errors import RemoteError


def call_values(method: Method, function: Callable[..., Any], values: tuple[Any, ...]) -> Any:
    """Call with values in the order of the method's parameters."""
    if not any(parameter.keyword_only for parameter in method.parameters):
        return function(*values)
    pairs = list(zip(method.parameters, values, strict=True))
    positional = [value for parameter, value in pairs if not parameter.keyword_only]
    return function(*positional, **{p.name: value for p, value in pairs if p.keyword_only})


def bind(method: Method, positional: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, ...]:
    """Arguments in the order of the parameters; generated callers always give all of them."""
    return (*positional, *(named[p.name] for p in method.parameters[len(positional) :]))


def undecodable(error: Exception, method: Method) -> RemoteError:
    """The error for a result that is not what its method declares."""
    return RemoteError(
        f"its answer does not fit its declared type: {error}",
        origin=method.label,
        type_name=type(error).__name__,
        remedy="return what the method's annotation says",
    )


def as_it_is(value: Any) -> Any:
    """The value itself."""
    return value


class Copier:
    """Of one method. always: copy immutable values, too."""

    def __init__(self, method: Method, always: bool) -> None:
        self.method = method
        self.arguments = always or not method.immutable_arguments
        self.result = always or not method.immutable_result
        self._encode = msgspec.msgpack.Encoder().encode
        self._prepare_arguments = method.prepare_arguments or as_it_is
        self._prepare_result = method.prepare_result or as_it_is
        self._decode_request = msgspec.msgpack.Decoder(method.request, dec_hook=decode_hook).decode
        self._decode_result = msgspec.msgpack.Decoder(method.result, dec_hook=decode_hook).decode

    def copy_arguments(self, values: tuple[Any, ...]) -> tuple[Any, ...]:
        """Equal arguments that share nothing mutable. Raises InvalidArgument where they do not fit."""
        try:
            data = self._encode(self._prepare_arguments(values))
        except UNENCODABLE as error:
            raise invalid_argument(error, self.method) from None
        try:
            return self.method.arguments(self._decode_request(data))
        except UNDECODABLE as error:
            raise invalid_argument(error, self.method) from None

    def copy_result(self, value: Any) -> Any:
        """An equal result that shares nothing mutable.

        Raises what the codec raises where it cannot write the value, and RemoteError where it cannot read it as the
        declared type.
        """
        data = self._encode(self._prepare_result(value))
        try:
            return self._decode_result(data)
        except UNDECODABLE as error:
            raise undecodable(error, self.method) from None

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

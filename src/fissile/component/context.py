"""What travels with a call besides its arguments: trace, release, deadline.

A `CallContext` is immutable and shared by every call that a request causes within one process and
deadline. The current one is found in `call_context`; components rarely need it.
Format of `traceparent`: W3C Trace Context, level 1, https://www.w3.org/TR/trace-context/.
"""

import re
from contextvars import ContextVar
from math import inf

import msgspec

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")


class CallContext(msgspec.Struct, frozen=True, gc=False):
    """What travels with a call besides its arguments.

    Attributes:
        trace_id: The trace, 128 bits, never 0.
        span_id: The caller's span, 64 bits.
        sampled: Whether the trace is kept.
        release: The release to which the request is pinned; `""` while there is only one.
        deadline: When the call's time is up, in seconds on the process's monotonic clock; `inf` for never.
        timeout: Seconds the call was given when it began; `inf` for no limit.
    """

    trace_id: int
    span_id: int
    sampled: bool = False
    release: str = ""
    deadline: float = inf
    timeout: float = inf

    def traceparent(self) -> str:
        """Return the trace as a `traceparent` header (W3C Trace Context, level 1)."""
        return f"00-{self.trace_id:032x}-{self.span_id:016x}-{int(self.sampled):02x}"


def parse_traceparent(text: str) -> tuple[int, int, bool] | None:
    """Trace id, parent span id and sampled flag of a `traceparent` header, or None if malformed."""
    match = _TRACEPARENT.fullmatch(text.strip())
    if match is None or match[1] == "ff" or (match[1] == "00" and match[5]):
        return None
    trace_id, span_id = int(match[2], 16), int(match[3], 16)
    if trace_id == 0 or span_id == 0:
        return None
    return trace_id, span_id, bool(int(match[4], 16) & 1)


call_context: ContextVar[CallContext | None] = ContextVar("fissile_call_context", default=None)


def current() -> CallContext | None:
    """Return the context of the call being served, or None outside any call."""
    return call_context.get()

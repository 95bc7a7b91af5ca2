"""Enforces deadlines within a process: the waiting coroutine is cancelled when its time is up."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from math import inf
from typing import Any

from fissile.component.context import CallContext, call_context
from fissile.component.wiring import DEFAULT_TIMEOUT_SECONDS, Environment
from fissile.errors import DeadlineExceeded


async def enforce(coroutine: Awaitable[Any], context: CallContext, origin: str) -> Any:
    """Await under the context; past its deadline the coroutine is cancelled and DeadlineExceeded raised."""
    task = asyncio.current_task()
    assert task is not None
    expired = False
    handle = None
    before = task.cancelling()

    def expire() -> None:
        nonlocal expired
        expired = True
        task.cancel()

    if context.deadline != inf:
        remaining = max(0.0, context.deadline - time.monotonic())
        handle = asyncio.get_running_loop().call_later(remaining, expire)
    token = call_context.set(context)
    try:
        return await coroutine
    except asyncio.CancelledError:
        if expired and task.uncancel() <= before:
            raise exceeded(origin, context.timeout) from None
        raise
    finally:
        call_context.reset(token)
        if handle is not None:
            handle.cancel()


def exceeded(origin: str, timeout: float) -> DeadlineExceeded:
    """The error for a call whose time ran out."""
    return DeadlineExceeded(
        f"{origin} did not answer within its {timeout:g} s",
        origin=origin,
        remedy="look for what it waits on, or give it more time with @method(timeout=...)",
    )


def environment(
    *,
    observe: Callable[[str, str], list[int]] | None = None,
    witness: Callable[[str, str], None] | None = None,
    copy_always: bool = False,
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
) -> Environment:
    """The real world for references: this process's clock, randomness and deadlines."""
    return Environment(
        clock=time.monotonic,
        clock_ns=time.perf_counter_ns,
        bits=random.getrandbits,
        enforce=enforce,
        observe=observe,
        witness=witness,
        copy_always=copy_always,
        timeout_seconds=timeout_seconds,
    )

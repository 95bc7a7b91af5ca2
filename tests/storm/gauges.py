"""What counts in a process: gauges of its objects, its tasks, its descriptors."""

import asyncio
import collections
import gc
import os
from typing import Any


def counts(thing: object) -> dict[str, int]:
    """Every number and every container's length among an object's attributes."""
    found: dict[str, int] = {}
    names = [name for cls in type(thing).__mro__ for name in getattr(cls, "__slots__", ())]
    for name in [*names, *getattr(thing, "__dict__", ())]:
        value: Any = getattr(thing, name, None)
        if isinstance(value, bool | int):
            found[name] = int(value)
        elif isinstance(value, list | dict | set | collections.deque):
            found[name] = len(value)  # pyright: ignore[reportUnknownArgumentType]
    return found


def living() -> dict[str, int]:
    """Tasks, descriptors, and the objects of Fissile's connections and calls, by name."""
    gc.collect()
    found: collections.Counter[str] = collections.Counter()
    for each in gc.get_objects():
        kind = type(each)
        if str(kind.__module__).startswith(("fissile.rpc", "fissile.wire")) or kind.__name__ in TRANSPORTS:
            found[f"objects of {kind.__module__}.{kind.__name__}"] += 1
    found["tasks"] = len(asyncio.all_tasks())
    found["descriptors"] = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    return dict(found)


TRANSPORTS = frozenset({"UnixTransport", "TCPTransport", "_SelectorSocketTransport"})


def off(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    """What is more (or less) than it was."""
    return {
        name: after.get(name, 0) - before.get(name, 0)
        for name in sorted({*before, *after})
        if after.get(name, 0) != before.get(name, 0)
    }

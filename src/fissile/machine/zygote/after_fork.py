"""What replicas must not have in common, though they are forked from one import: chance, and what is to be deleted.

Random numbers: `random.Random()` at import is seeded by the system, once for all replicas, as are numpy's generators.
While the application is imported, it is noted which of them nobody has seeded, and a child seeds those anew. Whatever
was given a seed keeps it: so `Random(42)` is the same in all. The generator of the module `random` itself CPython seeds
anew in every fork, whatever seed it was given.

Temporary files: an object of `tempfile` deletes its file or folder when its process ends, and a callback of `atexit`
may delete some, too. They belong to the process that made them, the zygote, and live as long as it. So a child forgets
to delete them. Other callbacks of `atexit` run in every replica at its end: they are there to write what is buffered.
"""

import atexit
import functools
import os
import pathlib
import random
import secrets
import shutil
import sys
import tempfile
import weakref
from collections.abc import Callable, Generator
from contextlib import AsyncExitStack, ExitStack, contextmanager, suppress
from typing import Any, cast

from fissile.machine.zygote.fork_hazards import instances

_DELETE = (shutil.rmtree, os.remove, os.unlink, os.rmdir, os.removedirs)
_HOLD_FILES = (ExitStack, AsyncExitStack, tempfile.TemporaryDirectory, pathlib.Path)
# Numpy draws so many bits where it is given no seed.
_ENTROPY_BITS = 128

Callback = Callable[..., Any]


def deletes(callback: Callback) -> bool:
    """Whether a callback of `atexit` is there to delete files. One that a module wrote itself does not show it."""
    if isinstance(callback, functools.partial):
        return deletes(cast("functools.partial[Any]", callback).func)
    return callback in _DELETE or isinstance(getattr(callback, "__self__", None), _HOLD_FILES)


class Renewal:
    """Of all that one zygote imports."""

    def __init__(self) -> None:
        self._unseeded: dict[int, weakref.ref[random.Random]] = {}
        self._drawn: set[int] = set()
        self._callbacks: list[Callback] = []
        # Bit generators and random states of numpy, and the closers of temporary files.
        self._generators: list[Any] = []
        self._states: list[Any] = []
        self._closers: list[weakref.ref[Any]] = []

    @contextmanager
    def watching(self) -> Generator[None]:
        """Within it the application is imported; no objects may be frozen (gc.freeze) before its end."""
        kind: Any = random.Random
        seed, setstate = kind.seed, kind.setstate
        randbits, register = secrets.randbits, atexit.register

        def seeded(one: random.Random, a: Any = None, version: int = 2) -> None:
            seed(one, a, version)
            self._unseeded.pop(id(one), None)
            if a is None:
                with suppress(TypeError):
                    self._unseeded[id(one)] = weakref.ref(one)

        def set_to(one: random.Random, state: Any) -> None:
            setstate(one, state)
            self._unseeded.pop(id(one), None)

        def drawn(k: int) -> int:
            found = randbits(k)
            if k == _ENTROPY_BITS:
                self._drawn.add(found)
            return found

        def registered(func: Callback, /, *args: Any, **kwargs: Any) -> Any:
            if deletes(func):
                self._callbacks.append(func)
            return register(func, *args, **kwargs)

        kind.seed, kind.setstate = seeded, set_to
        secrets.randbits, atexit.register = drawn, registered
        try:
            yield
        finally:
            kind.seed, kind.setstate = seed, setstate
            secrets.randbits, atexit.register = randbits, register
            _put_back("randbits", drawn, randbits)
            _put_back("register", registered, register)
            self._find()

    def _find(self) -> None:
        """Among all objects, those that are known by their class alone."""
        closer: Any = getattr(tempfile, "_TemporaryFileCloser", None)
        if closer is not None:
            self._closers += [weakref.ref(one) for one in instances(closer)]
        numpy: Any = sys.modules.get("numpy.random")
        if numpy is not None:
            states = instances(numpy.RandomState)
            self._states += [one for one in states if self._by_chance(getattr(one, "_bit_generator", None))]
            self._generators += [one for one in instances(numpy.BitGenerator) if self._by_chance(one)]

    def _by_chance(self, generator: Any) -> bool:
        """Whether the system gave a bit generator of numpy its seed."""
        seed: Any = getattr(generator, "seed_seq", None) or getattr(generator, "_seed_seq", None)
        entropy: Any = getattr(seed, "entropy", None)
        return isinstance(entropy, int) and entropy in self._drawn

    def renew(self) -> None:
        """In a child: have chance of its own, and leave to the zygote what the zygote is to delete."""
        for ref in self._unseeded.values():
            one = ref()
            if one is not None:
                one.seed()
        for generator in self._generators:
            generator.state = type(generator)().state
        for state in self._states:
            state.seed()
        for callback in self._callbacks:
            atexit.unregister(callback)
        for ref in self._closers:
            closer = ref()
            if closer is not None:
                closer.delete = False
        cleanup: Any = getattr(tempfile.TemporaryDirectory, "_cleanup", None)
        registry: dict[Any, Any] = getattr(weakref.finalize, "_registry", {})
        for finalizer, info in list(registry.items()):
            if getattr(info.func, "__func__", None) is getattr(cleanup, "__func__", info):
                finalizer.atexit = False


def _put_back(name: str, ours: Callback, theirs: Callback) -> None:
    """Into modules that have taken the function by its name."""
    for module in list(sys.modules.values()):
        with suppress(Exception):  # whatever has been put there as a module
            if vars(module).get(name) is ours:
                setattr(module, name, theirs)

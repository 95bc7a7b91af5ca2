"""Which variables an import has asked for that belong to one service, and are set in its replicas alone.

The application is imported once, for all services that are forked from that. A variable of one of them cannot be there
for an import, or all would have it. Who reads it there would be given a default for ever, and is told so instead.
"""

import os
import sys
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from typing import Any

# Steps of Python's own between who asks and what is asked.
_BETWEEN = (os.__file__, __file__, "<frozen os>", "<frozen _collections_abc>")


class Reads:
    """names: of the variables that are looked out for. found: where each was read first, as "FILE, line N"."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = {os.fsencode(name): name for name in names}
        self.found: dict[str, str] = {}

    @contextmanager
    def watching(self) -> Generator[None]:
        """Within it, what is read from `os.environ` is noticed; nothing else is different."""
        environ: Any = os.environ
        if not self._names or not isinstance(getattr(environ, "_data", None), dict):
            yield
            return
        environ._data = _Noticing(environ._data, self)
        try:
            yield
        finally:
            environ._data = dict(environ._data)

    def notice(self, key: object) -> None:
        """A variable is read."""
        name = self._names.get(key) if isinstance(key, bytes) else None
        if name is None or name in self.found:
            return
        frame = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
        while frame.f_back is not None and frame.f_code.co_filename.endswith((*_BETWEEN, "_collections_abc.py")):
            frame = frame.f_back
        self.found[name] = f"{frame.f_code.co_filename}, line {frame.f_lineno}"


class _Noticing(dict[Any, Any]):
    def __init__(self, data: Mapping[Any, Any], reads: Reads) -> None:
        super().__init__(data)
        self._reads = reads

    def __getitem__(self, key: Any) -> Any:
        self._reads.notice(key)
        return super().__getitem__(key)

"""The author's whole API: write typed components once, run them as a monolith or as microservices.

Re-exports only, imported when the first of them is asked for: the command line, which asks for none, starts without
them. Start reading at `fissile.component`.
"""

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from fissile.version import VERSION as _VERSION

if TYPE_CHECKING:
    from fissile.component.context import CallContext, current
    from fissile.component.declaration import Lazy, component, interface, method
    from fissile.errors import (
        CallError,
        Cancelled,
        ConfigError,
        DeadlineExceeded,
        DeclarationError,
        FissileError,
        IncompatibleContract,
        InvalidArgument,
        Overloaded,
        PermissionDenied,
        RemoteError,
        Unavailable,
    )
    from fissile.runtime.application import Application

__version__ = _VERSION

__all__ = [
    "Application",
    "CallContext",
    "CallError",
    "Cancelled",
    "ConfigError",
    "DeadlineExceeded",
    "DeclarationError",
    "FissileError",
    "IncompatibleContract",
    "InvalidArgument",
    "Lazy",
    "Overloaded",
    "PermissionDenied",
    "RemoteError",
    "Unavailable",
    "component",
    "current",
    "interface",
    "method",
]

_HOMES = {
    "fissile.component.context": ("CallContext", "current"),
    "fissile.component.declaration": ("Lazy", "component", "interface", "method"),
    "fissile.errors": (
        "CallError",
        "Cancelled",
        "ConfigError",
        "DeadlineExceeded",
        "DeclarationError",
        "FissileError",
        "IncompatibleContract",
        "InvalidArgument",
        "Overloaded",
        "PermissionDenied",
        "RemoteError",
        "Unavailable",
    ),
    "fissile.runtime.application": ("Application",),
}


class _Package(ModuleType):
    """This package: its names are imported when the first is asked for."""

    def __getattr__(self, name: str) -> Any:
        if name not in __all__:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        from importlib import import_module

        for home, names in _HOMES.items():
            module = import_module(home)
            vars(self).update((one, getattr(module, one)) for one in names)
        return vars(self)[name]

    def __setattr__(self, name: str, value: Any) -> None:
        """The import system sets a room's name when it has imported the room; `component` is the decorator's name."""
        if name != "component" or not isinstance(value, ModuleType):
            super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *__all__})


sys.modules[__name__].__class__ = _Package

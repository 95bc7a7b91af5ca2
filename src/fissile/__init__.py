"""The author's whole API: write typed components once, run them as a monolith or as microservices.

Re-exports only. Start reading at `fissile.component`.
"""

from fissile.component.context import CallContext, current
from fissile.component.interface import Lazy, component, interface, method
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

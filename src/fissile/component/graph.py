"""An application: components and their references, checked as a graph when it is declared.

`Graph` reads every class, resolves each constructor parameter, and either knows the order in which
components start or raises one `DeclarationError` with every mistake and its remedy.
"""

import dataclasses
import inspect
import types
import typing
from collections.abc import Iterable
from contextvars import ContextVar
from typing import Any, cast

import msgspec

from fissile.component.declaration import Lazy, class_mark
from fissile.component.interface import Interface, mismatches, read_interface
from fissile.component.variables import Variables
from fissile.component.variables import mistakes as mistaken_variables
from fissile.errors import DeclarationError

RESERVED_COMPONENTS = frozenset({"Control", "Fissile"})


class Reference(msgspec.Struct, frozen=True):
    """A constructor parameter that is filled with a reference to another component."""

    parameter: str
    target: str
    lazy: bool = False


class ConfigParameter(msgspec.Struct, frozen=True):
    """A constructor parameter that is filled from the configuration; `type` is its struct."""

    parameter: str
    type: Any


class Component(msgspec.Struct, frozen=True, eq=False):
    """One component of an application.

    http: it has a public listener. foreign: only its interface is known here; a program in any language
    implements it.
    """

    name: str
    cls: type
    interface: Interface
    references: tuple[Reference, ...]
    configs: tuple[ConfigParameter, ...]
    http: bool
    foreign: bool = False


class Graph:
    """Components by name, in the order in which they start: callees before their callers.

    context: ContextVars that travel by value with every call, in every topology; any other stays in its process.
    """

    def __init__(self, *components: type, name: str = "app", context: Iterable[ContextVar[Any]] = ()) -> None:
        self.name = name
        several = hasattr(context, "__iter__")
        named = tuple(context) if several else ()
        mistakes = mistaken_variables(named)
        if not several:
            mistakes.append("context takes several variables: pass a list, as in context=[tenant]")
        read = _read_classes(components, mistakes)
        providers = _providers(read)
        found = {
            name: _read_component(name, cls, interface, providers, mistakes)
            if _implemented(cls)
            else Component(name, cls, interface, (), (), False, foreign=True)
            for name, (cls, interface) in read.items()
        }
        order = _start_order(found, mistakes)
        if mistakes:
            raise DeclarationError(f"application {name!r}", list(dict.fromkeys(mistakes)))
        self.context = Variables(named)
        self.components: dict[str, Component] = {name: found[name] for name in order}

    def callers(self, target: str) -> tuple[str, ...]:
        """The components that declare a reference to `target`: those that may call it."""
        return tuple(
            component.name
            for component in self.components.values()
            if any(reference.target == target for reference in component.references)
        )

    def component_of(self, cls: type) -> Component:
        """The component that is, or implements, this class. Raises KeyError if there is none."""
        for component in self.components.values():
            mark = class_mark(component.cls)
            if component.cls is cls or (mark is not None and mark.implements is cls):
                return component
        raise KeyError(f"{cls.__name__} is not a component of {self.name!r}")


def _read_classes(components: tuple[type, ...], mistakes: list[str]) -> dict[str, tuple[type, Interface]]:
    read: dict[str, tuple[type, Interface]] = {}
    if not components:
        mistakes.append("no components: pass the classes, as in Application(Frontend, Catalog)")
    for cls in components:
        mark = class_mark(cls)
        if mark is None:
            shown = getattr(cls, "__name__", repr(cls))
            mistakes.append(f"{shown} is not a component: decorate the class with @component")
            continue
        if mark.name.startswith("_") or mark.name in RESERVED_COMPONENTS or not mark.name.isidentifier():
            mistakes.append(f"{mark.name!r} is private, reserved or no identifier: use @component(name=...)")
            continue
        if mark.name in read:
            other = read[mark.name][0]
            mistakes.append(
                f"two components are named {mark.name!r} ({_place(other)} and {_place(cls)}): "
                "give one of them another @component(name=...)"
            )
            continue
        own, found = read_interface(cls)
        mistakes.extend(found)
        interface = own
        if mark.implements is not None:
            declared_mark = class_mark(mark.implements)
            if declared_mark is None or declared_mark.kind != "interface":
                mistakes.append(
                    f"{mark.name} implements {mark.implements.__name__}, which is not an @interface: decorate it"
                )
            else:
                declared, declared_mistakes = read_interface(mark.implements)
                mistakes.extend(declared_mistakes)
                mistakes.extend(mismatches(declared, own))
                interface = declared
        read[mark.name] = (cls, _named(interface, mark.name))
    return read


def _implemented(cls: type) -> bool:
    mark = class_mark(cls)
    return mark is not None and mark.kind == "component"


def _named(interface: Interface, name: str) -> Interface:
    """The interface under its component's name: that is how it is called and reported."""
    if interface.name == name:
        return interface
    methods = {key: msgspec.structs.replace(m, component=name) for key, m in interface.methods.items()}
    return Interface(name, methods, interface.doc)


def _place(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _providers(read: dict[str, tuple[type, Interface]]) -> dict[type, list[str]]:
    providers: dict[type, list[str]] = {}
    for name, (cls, _) in read.items():
        providers.setdefault(cls, []).append(name)
        mark = class_mark(cls)
        if mark is not None and mark.implements is not None:
            providers.setdefault(mark.implements, []).append(name)
    return providers


def _read_component(
    name: str, cls: type, interface: Interface, providers: dict[type, list[str]], mistakes: list[str]
) -> Component:
    references: list[Reference] = []
    configs: list[ConfigParameter] = []
    for parameter, annotation in _constructor(name, cls, mistakes):
        where = f"{name}.__init__: parameter {parameter.name!r}"
        optional = parameter.default is not inspect.Parameter.empty
        if annotation is None:
            if not optional:
                mistakes.append(f"{where} has no annotation: name the component or config struct that it takes")
            continue
        wanted, lazy, nullable = _unwrap(annotation)
        candidates = providers.get(wanted, []) if isinstance(wanted, type) else []
        mark = class_mark(wanted)
        if len(candidates) == 1:
            references.append(Reference(parameter.name, candidates[0], lazy))
        elif len(candidates) > 1:
            mistakes.append(f"{where} is ambiguous: {' and '.join(candidates)} both provide {wanted.__name__}")
        elif nullable and mark is not None and optional:
            continue
        elif mark is not None:
            mistakes.append(
                f"{where} refers to {mark.name}, which is not in the application: add it to Application(...)"
            )
        elif _is_config(wanted):
            configs.append(ConfigParameter(parameter.name, wanted))
        elif not optional:
            shown = getattr(wanted, "__name__", repr(wanted))
            mistakes.append(f"{where} has the type {shown}: it must be a component, a config struct, or have a default")
    http = callable(getattr(cls, "http", None))
    return Component(name, cls, interface, tuple(references), tuple(configs), http)


def _constructor(name: str, cls: type, mistakes: list[str]) -> list[tuple[inspect.Parameter, Any]]:
    init = cls.__init__
    if init is object.__init__:
        return []
    try:
        hints = typing.get_type_hints(init)
    except Exception as error:
        mistakes.append(f"{name}.__init__: an annotation cannot be resolved ({error}): import the name in this module")
        return []
    named = [
        parameter
        for parameter in list(inspect.signature(init).parameters.values())[1:]
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    return [(parameter, hints.get(parameter.name)) for parameter in named]


def _unwrap(annotation: Any) -> tuple[Any, bool, bool]:
    """The wanted class, whether it is lazy, and whether None would do."""
    nullable = False
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        rest = [part for part in typing.get_args(annotation) if part is not type(None)]
        if len(rest) == 1:
            annotation, nullable = rest[0], True
    if typing.get_origin(annotation) is Lazy:
        return typing.get_args(annotation)[0], True, nullable
    return annotation, False, nullable


def _is_config(wanted: Any) -> bool:
    if not isinstance(wanted, type):
        return False
    kind = cast(type[Any], wanted)
    return issubclass(kind, msgspec.Struct) or dataclasses.is_dataclass(kind)


def _start_order(found: dict[str, Component], mistakes: list[str]) -> list[str]:
    """Callees before callers, otherwise as declared; reports each cycle once, by name."""
    order: list[str] = []
    path: list[str] = []

    def visit(name: str) -> None:
        if name in path:
            cycle = path[path.index(name) :]
            first = cycle.index(min(cycle))  # the same cycle is named the same from wherever it is entered
            shown = " → ".join([*cycle[first:], *cycle[:first], cycle[first]])
            mistakes.append(f"reference cycle {shown}: break it with Lazy[...] on one reference, or redesign")
            return
        if name in order or name not in found:
            return
        path.append(name)
        for reference in found[name].references:
            if not reference.lazy:
                visit(reference.target)
        path.pop()
        order.append(name)

    for name in found:
        visit(name)
    return order

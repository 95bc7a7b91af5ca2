"""Which attributes a class sets in its `__init__`, and which of them come straight from a parameter.

Read from the bytecode, which is there when the source is not: a store to an attribute of the first parameter. Newer
Pythons fuse loads and stores into one instruction; here they are taken apart again.
"""

import dis
import inspect
import re
from collections.abc import Iterator
from types import FunctionType
from typing import Any, NamedTuple

_FAST = re.compile(r"(LOAD|STORE|DELETE)_FAST(?:_BORROW|_CHECK|_AND_CLEAR|_MAYBE_NULL)?")


class Step(NamedTuple):
    """One instruction. kind: LOAD or STORE (of a local variable), ATTRIBUTE (a store), or another's name."""

    kind: str
    name: Any
    jumped_to: bool


def attributes_set(cls: type) -> dict[str, inspect.Parameter | None]:
    """The attributes that the constructor of this class (not of its bases) sets.

    Each with the parameter whose value it takes as it is, or None where the value is made in another way.
    """
    function = inspect.unwrap(vars(cls).get("__init__", object.__init__))
    if not isinstance(function, FunctionType):
        return {}
    parameters = list(inspect.signature(function).parameters.values())
    if not parameters:
        return {}
    steps = list(_steps(function))
    altered = {step.name for step in steps if step.kind == "STORE"}
    named = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    straight = {p.name: p for p in parameters[1:] if p.kind in named and p.name not in altered}
    found: dict[str, inspect.Parameter | None] = {}
    for value, target, store in zip([Step("", "", False), *steps], steps, steps[1:], strict=False):
        if store.kind != "ATTRIBUTE" or (target.kind, target.name) != ("LOAD", parameters[0].name):
            continue
        source = straight.get(value.name) if value.kind == "LOAD" and not target.jumped_to else None
        # Set twice in different ways: by no parameter.
        found[store.name] = source if found.get(store.name, source) is source else None
    return found


def _steps(function: FunctionType) -> Iterator[Step]:
    for instruction in dis.get_instructions(function):
        kinds = _FAST.findall(instruction.opname)
        if instruction.opname == "STORE_ATTR":
            yield Step("ATTRIBUTE", instruction.argval, instruction.is_jump_target)
        elif instruction.opname in ("LOAD_DEREF", "STORE_DEREF"):  # a parameter that a function inside uses, too
            yield Step(instruction.opname.partition("_")[0], instruction.argval, instruction.is_jump_target)
        elif not kinds:
            if instruction.opname not in ("CACHE", "EXTENDED_ARG", "NOP", "NOT_TAKEN"):
                yield Step(instruction.opname, None, instruction.is_jump_target)
        else:
            names: Any = instruction.argval if len(kinds) > 1 else (instruction.argval,)
            for place, (kind, name) in enumerate(zip(kinds, names, strict=True)):
                yield Step(kind, name, instruction.is_jump_target and place == 0)

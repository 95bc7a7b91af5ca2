"""The environment of an application's processes: that of the `fissile up` that started it, until another is sent.

It belongs to a zygote and to all that is started by it, programs too, so that the replicas of a service never differ
in it. It is handed from supervisor to supervisor in the zygote's letters (see `sealed_letters`), and stands in no file.
"""

import base64
import os
import time
from collections.abc import Mapping

import msgspec

from fissile.machine import process_secrets
from fissile.machine.procfs import VARIABLE

BY_UP = "up"


class Environment(msgspec.Struct, frozen=True):
    """block: NAME=VALUE, each ended by a zero byte, as the kernel has it (proc_pid_environ(5)): values need be no text.

    by: the command that it came with; since: when (seconds of the wall clock).
    """

    block: bytes = b""
    by: str = BY_UP
    since: float = 0.0

    def general(self) -> dict[str, str]:
        """Return the variables that every process of the application gets."""
        found = variables(self.block)
        return {name: value for name, value in found.items() if not name.startswith(process_secrets.PREFIX)}

    def components(self) -> dict[str, str]:
        """Return the variables of components, of which each service gets only its own."""
        found = variables(self.block)
        return {k: v for k, v in found.items() if k.startswith(process_secrets.PREFIX) and k != VARIABLE}

    def __str__(self) -> str:
        when = time.localtime(self.since)
        today = time.localtime()[:3] == when[:3]
        return f"environment of `{self.by}` at {time.strftime('%H:%M' if today else '%Y-%m-%d %H:%M', when)}"

    def __repr__(self) -> str:
        return f"<{self}>"  # no secret of it gets into a traceback


def variables(block: bytes) -> dict[str, str]:
    """Unpack a block. Bytes that are no text become surrogates (PEP 383)."""
    pairs = [line.partition(b"=") for line in block.split(b"\0")]
    return {os.fsdecode(name): os.fsdecode(value) for name, equal, value in pairs if name and equal}


def packed(found: Mapping[str, str]) -> bytes:
    """Pack variables into a block."""
    return b"".join(os.fsencode(name) + b"=" + os.fsencode(value) + b"\0" for name, value in found.items())


def parted(found: Mapping[str, str]) -> tuple[dict[str, str], bytes]:
    """Split variables into those that are text, and a block of the others: messages hold only text."""
    text = {name: value for name, value in found.items() if _is_text(name) and _is_text(value)}
    return text, packed({name: value for name, value in found.items() if name not in text})


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def taken() -> Environment:
    """Return the environment of this process, with the variables that were removed from it."""
    return Environment(packed(os.environ | process_secrets.variables()), BY_UP, time.time())


def sent(text: str, by: str) -> Environment | None:
    """Decode an environment that a person has sent; None if there is none. Raises ValueError if it is malformed."""
    if not text:
        return None
    block = base64.b64decode(text, validate=True)
    if not all(b"=" in line for line in block.rstrip(b"\0").split(b"\0")):
        raise ValueError("the environment that was sent is malformed: send NAME=VALUE, each ended by a zero byte")
    return Environment(block, by, time.time())

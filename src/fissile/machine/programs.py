"""Checks whether a program can be run at all, so that one that cannot is reported before anything starts.

What execve(2) would answer with ENOENT or EACCES: a program, or the interpreter in its first line, that is not there or
may not be executed.
"""

import importlib
import importlib.util
import os
import shlex
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from fissile.errors import ConfigError
from fissile.settings.schema import ServiceSettings, Settings

FIRST_LINE_BYTES_MAX = 256  # as many as the kernel reads (BINPRM_BUF_SIZE, execve(2))
# Of a shell whose program was not found, or may not be run; and of ours.
NOT_FOUND = (126, 127)
# What serves a WSGI application in an event loop.
WSGI_SERVER = "a2wsgi"


def check_programs(
    settings: Settings, services: Iterable[str], roots: tuple[Path, ...], environment: Mapping[str, str]
) -> None:
    """All programs of an application at once, and what its WSGI applications need.

    roots: its folder, as a copy and as it is edited. Raises ConfigError.
    """
    errors: list[ConfigError] = []
    for name in services:
        own = settings.service(name)
        if own.command:
            try:
                check_program(name, own, roots, environment)
            except ConfigError as error:
                errors.append(error)
        elif own.wsgi and not _can_import(WSGI_SERVER):
            errors.append(
                ConfigError(
                    f"{name} is a WSGI application, which needs {WSGI_SERVER}", remedy=f"pip install {WSGI_SERVER}"
                )
            )
    if errors:
        remedy = errors[0].remedy if len(errors) == 1 else "mend them; nothing was started"
        raise ConfigError("\n".join(error.message for error in errors), remedy=remedy)


def _can_import(module: str) -> bool:
    """Whether a module is installed where this interpreter runs; it is not imported."""
    importlib.invalidate_caches()  # it may have been installed since we began
    return importlib.util.find_spec(module) is not None


def check_program(
    service: str, settings: ServiceSettings, roots: tuple[Path, ...], environment: Mapping[str, str]
) -> None:
    """Raises ConfigError where a program or its folder is not there. environment: in which it is looked for."""
    folders = [folder for root in roots if (folder := root / settings.folder).is_dir()]
    if not folders:
        remedy = f"mend `folder` under [services.{service}]"
        raise ConfigError(f"there is no folder {roots[-1] / settings.folder}", remedy=remedy)
    word = shlex.split(settings.command)[0]
    where = f"`command` under [services.{service}]"
    file = _found(word, folders, settings.environment.get("PATH") or environment.get("PATH") or os.defpath)
    if file is None:
        if "=" in word:
            raise ConfigError(
                f"there is no program {word!r}: {where} is run by no shell",
                remedy="write variables into `environment`, or a shell's line as sh -c '…'",
            )
        raise ConfigError(f"there is no program {word!r}", remedy=f"install it, or mend {where}")
    if not file.is_file():
        raise ConfigError(f"{file} is not a program", remedy=f"mend {where}")
    if not os.access(file, os.X_OK):
        raise ConfigError(
            f"{file} may not be executed", remedy=f"chmod +x {file.name}, or begin {where} with its interpreter"
        )
    _check_interpreter(file)


def _found(word: str, folders: Iterable[Path], path: str) -> Path | None:
    """The file of a program: one in its folder, or on the path; else what is called so and is none."""
    there = [folder / word for folder in folders]
    for file in there:
        if file.is_file():
            return file
    found = None if "/" in word else shutil.which(word, path=path)
    if found is not None:
        return Path(found)  # a folder of the same name is no program: examples/shop has `node/`
    return next((file for file in there if file.exists()), None)


def _check_interpreter(file: Path) -> None:
    """Check the program that a script's first line names."""
    line = b""
    with suppress(OSError), file.open("rb") as script:
        line = script.read(FIRST_LINE_BYTES_MAX).split(b"\n")[0]
    if not line.startswith(b"#!"):
        return
    ends = line.endswith(b"\r")
    words = os.fsdecode(line[2:]).strip(" \t").split(None, 1) if not ends else [os.fsdecode(line[2:-1]).split()[0]]
    if ends:
        raise ConfigError(
            f"{file} names {words[0]!r} with a carriage return as its interpreter: its lines end as on Windows",
            remedy=f"sed -i 's/\\r$//' {file.name}",
        )
    if words and not os.access(words[0], os.X_OK):
        raise ConfigError(
            f"{file} names {words[0]} as its interpreter, which is not there",
            remedy="install it, or mend its first line",
        )

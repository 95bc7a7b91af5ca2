"""Where a folder says how it is started: Procfile, Compose file, Dockerfile. Each process by name, as it is written."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, cast

import msgspec

from fissile.settings.proposal import yaml
from fissile.settings.proposal.commands import CommandLine, understand
from fissile.settings.proposal.compose import NAMES, Built, Composed, composed
from fissile.settings.proposal.folder import Folder

_PROCESS = re.compile(r"(?P<name>[A-Za-z0-9_-]+):\s*(?P<command>.+)")
_INSTRUCTION = re.compile(r"\s*(?P<name>CMD|ENTRYPOINT)\s+(?P<rest>.+)", re.IGNORECASE)


class Process(msgspec.Struct, frozen=True):
    """One process that a file names. source: the file; built: what Compose says beside its command."""

    name: str
    line: CommandLine
    source: str
    built: Built | None = None

    @property
    def folder(self) -> str:
        """Where it runs, from the application's folder on."""
        context = self.built.context if self.built is not None else "."
        inner = self.line.folder.removeprefix("/app/").removeprefix("./").rstrip("/")
        inner = "" if inner.startswith("/") or inner == "." else inner
        return "/".join(part for part in (context if context != "." else "", inner) if part) or "."


class Sources(msgspec.Struct, frozen=True):
    """Everything that such files say. unread: each with the reason why it could not be read."""

    processes: tuple[Process, ...] = ()
    composed: Composed = Composed()
    compose_file: str = ""
    unread: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()


def sources(folder: Folder) -> Sources:
    """The processes of a folder. A Procfile comes before a Compose file, and that before a Dockerfile."""
    unread: list[str] = []
    ignored: list[str] = []
    file = folder.first(*NAMES)
    found = Composed()
    if file:
        try:
            found = composed(yaml.read(folder.texts[file]))
        except yaml.NotRead as error:
            unread.append(f"{file} is not understood from line {error.line} on: see which services it has")
    processes = list(_of_procfile(folder.texts.get("Procfile", "")))
    built = [one for one in (_of_compose(folder, file, service, unread) for service in found.built) if one is not None]
    image = _of_dockerfile(folder, "Dockerfile")
    if processes and (built or image):
        ignored.append(file if built else "Dockerfile")
    elif not processes:
        processes = built
        if not processes and image:
            processes = [Process("web", image, "Dockerfile")]
    return Sources(tuple(processes), found, file, tuple(unread), tuple(ignored))


def _of_procfile(text: str) -> Iterator[Process]:
    for line in text.splitlines():
        found = _PROCESS.fullmatch(line.strip())
        if found is not None:
            yield Process(found["name"], understand(found["command"]), "Procfile")


def _of_compose(folder: Folder, file: str, service: Built, unread: list[str]) -> Process | None:
    if service.command:
        line: CommandLine | None = understand(service.command)
    else:
        path = service.dockerfile if service.context == "." else f"{service.context}/{service.dockerfile}"
        line = _of_dockerfile(folder, path)
    if line is None:
        unread.append(f"{file} does not say what {service.name} starts: its image does")
        return None
    return Process(service.name, line, file, service)


def _of_dockerfile(folder: Folder, path: str) -> CommandLine | None:
    """What an image starts: its last ENTRYPOINT and CMD."""
    found: dict[str, list[str] | str] = {}
    for line in folder.texts.get(path, "").replace("\\\n", " ").splitlines():
        instruction = _INSTRUCTION.fullmatch(line.rstrip())
        if instruction is not None:
            found[instruction["name"].upper()] = _words(instruction["rest"])
    command, entry = found.get("CMD", []), found.get("ENTRYPOINT", [])
    if isinstance(entry, list) and isinstance(command, list):
        # An entry point that is a script of its own runs what it is given, by convention.
        words = command if entry and entry[0].endswith(".sh") else [*entry, *command]
        return understand(words) if words else None
    return understand(command or entry)


def _words(text: str) -> list[str] | str:
    try:
        words = json.loads(text)
    except ValueError:
        return text
    return [str(one) for one in cast(list[Any], words)] if isinstance(words, list) else text


def package(folder: Folder, path: str) -> Mapping[str, Any]:
    """A package.json; {} where it is not one."""
    try:
        found = json.loads(folder.texts.get(path, "{}"))
    except ValueError:
        return {}
    return cast(dict[str, Any], found) if isinstance(found, dict) else {}

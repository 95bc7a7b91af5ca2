"""`fissile graph`: components, references and services, for people and for programs."""

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from fissile.cli.arguments import Parser, for_programs, profile, target, topology

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fissile.component.graph import Component
    from fissile.component.interface import Method
    from fissile.settings.schema import ServiceSettings

USAGE = "[MODULE:ATTRIBUTE] [OPTIONS]"
FORMATS = ("text", "mermaid", "json")


def arguments(parser: Parser) -> None:
    """What the command takes."""
    target(parser)
    topology(parser)
    parser.option(
        "--format", choices=FORMATS, default="text", metavar="FORMAT", help="text, mermaid or json  [default: text]"
    )
    profile(parser)
    for_programs(parser, "the same as --format json")


def graph(folder: Path, target: str, topology: str | None, format: str, profile: str | None, json: bool) -> None:
    """Show components and programs, who calls whom, and which service each is in."""
    from fissile.cli.output import note, say
    from fissile.daemon.inspection import look_at
    from fissile.daemon.project import placed

    running = "" if topology else _running(placed(folder, target)[0])
    settings, found, grouped = look_at(folder, target, topology=topology, profile=profile, like=running)
    if running and grouped.name != running:
        note(f"it runs as {running}, which {settings.file or 'nothing'} does not name any more: this is {grouped.name}")
    programs = {name: one for name, one in settings.services.items() if one.foreign}
    name = found.name if found is not None else Path(settings.root).name
    drawn = Drawn(name, grouped.name, grouped.services, dict(found.components) if found is not None else {}, programs)
    printers = {"text": as_text, "mermaid": as_mermaid, "json": as_document}
    say(printers["json" if json else format](drawn))


def _running(folder: Path) -> str:
    """The topology of what runs in a folder; "" where nothing does."""
    from fissile.api.discovery import read_endpoints
    from fissile.errors import ConfigError

    try:
        return read_endpoints(folder).topology
    except ConfigError:
        return ""


class Drawn(NamedTuple):
    """What is drawn. services: with their components. programs: services in other technologies, with their settings."""

    application: str
    topology: str
    services: "Mapping[str, tuple[str, ...]]"
    components: "Mapping[str, Component]"
    programs: "Mapping[str, ServiceSettings]"

    def service_of(self, component: str) -> str:
        """The service that a component is in."""
        return next(service for service, components in self.services.items() if component in components)

    def alone(self) -> list[str]:
        """Programs that implement no component."""
        return [name for name in self.programs if name not in self.services]


def as_text(drawn: Drawn) -> str:
    """Services with their components, each with its methods and what it refers to; then programs."""
    lines = [f"{drawn.application}: topology {drawn.topology}"]
    for service, names in drawn.services.items():
        lines.append(f"\n{service}" + (f"  {_program(drawn.programs[service])}" if service in drawn.programs else ""))
        for name in names:
            component = drawn.components[name]
            targets = ", ".join(r.target + (" (lazy)" if r.lazy else "") for r in component.references)
            lines.append(f"  {name}" + (" (http)" if component.http else "") + (f" → {targets}" if targets else ""))
            lines += [f"    {_line(method)}" for method in component.interface.methods.values()]
    lines += [f"\n{name}  {_program(drawn.programs[name])}" for name in drawn.alone()]
    return "\n".join(lines)


def _program(settings: "ServiceSettings") -> str:
    """What a program is, what it calls, and after whom it starts."""
    kind = settings.guest or "command"
    calls = f" → {', '.join(settings.calls)}" if settings.calls else ""
    after = f", after {', '.join(settings.after)}" if settings.after else ""
    return f"{kind}: {getattr(settings, kind)}{calls}{after}"


def _line(method: "Method") -> str:
    parameters = ", ".join(parameter.name for parameter in method.parameters)
    notes = [
        *(["stream"] if method.streaming else []),
        *(["idempotent"] if method.idempotent else []),
        *([f"{method.timeout:g} s"] if method.timeout is not None else []),
    ]
    return f"{method.name}({parameters})" + (f"  [{', '.join(notes)}]" if notes else "")


def as_mermaid(drawn: Drawn) -> str:
    """A Mermaid flowchart; a dotted arrow is a reference that crosses the network."""
    lines = ["flowchart LR"]
    # Numbered: Mermaid has one name space, and a service may be named like a component.
    numbers = {name: f"service{number}" for number, name in enumerate([*drawn.services, *drawn.alone()])}
    for service, names in drawn.services.items():
        lines.append(f'  subgraph {numbers[service]}["{service}"]')
        lines += [f"    {name}" for name in names]
        lines.append("  end")
    lines += [f'  {numbers[name]}(["{name}"])' for name in drawn.alone()]
    for name, component in drawn.components.items():
        for reference in component.references:
            same = drawn.service_of(name) == drawn.service_of(reference.target)
            lines.append(f"  {name} {'-->' if same else '-.->'} {reference.target}")
    for name, program in drawn.programs.items():
        lines += [f"  {numbers[name]} -.-> {component}" for component in program.calls]
        lines += [f"  {numbers[name]} -. after .-> {numbers[other]}" for other in program.after if other in numbers]
    return "\n".join(lines)


def as_document(drawn: Drawn) -> str:
    """The same for programs."""
    import msgspec

    components = {
        name: {
            "service": drawn.service_of(name),
            "http": component.http,
            "references": [{"target": r.target, "lazy": r.lazy} for r in component.references],
            "methods": {
                method.name: {
                    "parameters": [parameter.name for parameter in method.parameters],
                    "fingerprint": method.fingerprint,
                    "stream": method.streaming,
                    "idempotent": method.idempotent,
                    "timeout_seconds": method.timeout,
                }
                for method in component.interface.methods.values()
            },
        }
        for name, component in drawn.components.items()
    }
    programs = {
        name: {
            "kind": one.guest or "command",
            "runs": one.command or one.asgi or one.wsgi,
            "calls": one.calls,
            "after": one.after,
        }
        for name, one in drawn.programs.items()
    }
    whole = {
        "application": drawn.application,
        "topology": drawn.topology,
        "services": drawn.services,
        "components": components,
        "programs": programs,
    }
    return msgspec.json.format(msgspec.json.encode(whole)).decode()

"""`fissile graph`: components, references and services, for people and for programs."""

from pathlib import Path
from typing import TYPE_CHECKING

from fissile.cli.arguments import Parser, for_programs, profile, target, topology

if TYPE_CHECKING:
    from fissile.component.interface import Method
    from fissile.daemon import Project

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
    """Show components, who calls whom, and which service each is in."""
    from fissile.cli.output import say
    from fissile.daemon import open_project

    project = open_project(folder, target, topology=topology, profile=profile)
    printers = {"text": as_text, "mermaid": as_mermaid, "json": as_document}
    say(printers["json" if json else format](project))


def as_text(project: "Project") -> str:
    """Services with their components, each with its methods and what it refers to."""
    lines = [f"{project.graph.name}: topology {project.topology.name}"]
    for service, names in project.topology.services.items():
        lines.append(f"\n{service}")
        for name in names:
            component = project.graph.components[name]
            targets = ", ".join(r.target + (" (lazy)" if r.lazy else "") for r in component.references)
            lines.append(f"  {name}" + (" (http)" if component.http else "") + (f" → {targets}" if targets else ""))
            lines += [f"    {_line(method)}" for method in component.interface.methods.values()]
    return "\n".join(lines)


def _line(method: "Method") -> str:
    parameters = ", ".join(parameter.name for parameter in method.parameters)
    notes = [
        *(["stream"] if method.streaming else []),
        *(["idempotent"] if method.idempotent else []),
        *([f"{method.timeout:g} s"] if method.timeout is not None else []),
    ]
    return f"{method.name}({parameters})" + (f"  [{', '.join(notes)}]" if notes else "")


def as_mermaid(project: "Project") -> str:
    """A Mermaid flowchart; a dotted arrow is a reference that crosses the network."""
    lines = ["flowchart LR"]
    for number, (service, names) in enumerate(project.topology.services.items()):
        # Numbered: Mermaid has one name space, and a service may be named like a component.
        lines.append(f'  subgraph service{number}["{service}"]')
        lines += [f"    {name}" for name in names]
        lines.append("  end")
    for name, component in project.graph.components.items():
        for reference in component.references:
            same = project.topology.service_of(name) == project.topology.service_of(reference.target)
            lines.append(f"  {name} {'-->' if same else '-.->'} {reference.target}")
    return "\n".join(lines)


def as_document(project: "Project") -> str:
    """The same for programs."""
    import msgspec

    components = {
        name: {
            "service": project.topology.service_of(name),
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
        for name, component in project.graph.components.items()
    }
    whole = {
        "application": project.graph.name,
        "topology": project.topology.name,
        "services": project.topology.services,
        "components": components,
    }
    return msgspec.json.format(msgspec.json.encode(whole)).decode()

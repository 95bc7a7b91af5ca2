"""`fissile graph`: components, references and services, for people and for programs."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from fissile.component.interface import Method
    from fissile.daemon import Project


class Format(StrEnum):
    """How to print."""

    TEXT = "text"
    MERMAID = "mermaid"
    JSON = "json"


def graph(
    path: Annotated[str, typer.Argument(help="folder with fissile.toml, or module:attribute")] = ".",
    topology: Annotated[str | None, typer.Option(help="monolith, microservices, or a name from fissile.toml")] = None,
    format: Annotated[Format, typer.Option(help="text, mermaid or json")] = Format.TEXT,
    profile: Annotated[str | None, typer.Option(help="a profile from fissile.toml")] = None,
    json: Annotated[bool, typer.Option("--json", help="the same as --format json")] = False,
) -> None:
    """Print components, who calls whom, and which service each is in."""
    from fissile.cli.output import say
    from fissile.daemon import open_project

    project = open_project(path, topology=topology, profile=profile)
    printers = {Format.TEXT: as_text, Format.MERMAID: as_mermaid, Format.JSON: as_json}
    say(printers[Format.JSON if json else format](project))


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


def as_json(project: "Project") -> str:
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

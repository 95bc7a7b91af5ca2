"""`fissile graph`: components, references and services, for people and for programs."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from fissile.daemon import Project, open_project


class Format(StrEnum):
    """How to print."""

    TEXT = "text"
    MERMAID = "mermaid"
    JSON = "json"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("graph")(graph_command)


def graph_command(
    path: Annotated[Path, typer.Argument(help="folder with fissile.toml")] = Path(),
    topology: Annotated[str | None, typer.Option(help="monolith, microservices, or a name from fissile.toml")] = None,
    format: Annotated[Format, typer.Option(help="text, mermaid or json")] = Format.TEXT,
    profile: Annotated[str | None, typer.Option(help="a profile from fissile.toml")] = None,
) -> None:
    """Print components, references and services."""
    project = open_project(path, topology=topology, profile=profile)
    print({Format.TEXT: as_text, Format.MERMAID: as_mermaid, Format.JSON: as_json}[format](project))


def as_text(project: Project) -> str:
    """Services with their components, each with its methods and what it refers to."""
    lines = [f"{project.graph.name}: topology {project.topology.name}"]
    for service, names in project.topology.services.items():
        lines.append(f"\n{service}")
        for name in names:
            component = project.graph.components[name]
            targets = ", ".join(r.target + (" (lazy)" if r.lazy else "") for r in component.references)
            lines.append(f"  {name}" + (" (http)" if component.http else "") + (f" → {targets}" if targets else ""))
            for method in component.interface.methods.values():
                parameters = ", ".join(parameter.name for parameter in method.parameters)
                notes = [
                    *(["stream"] if method.streaming else []),
                    *(["idempotent"] if method.idempotent else []),
                    *([f"{method.timeout:g} s"] if method.timeout is not None else []),
                ]
                lines.append(f"    {method.name}({parameters})" + (f"  [{', '.join(notes)}]" if notes else ""))
    return "\n".join(lines)


def as_mermaid(project: Project) -> str:
    """A Mermaid flowchart; a dotted arrow is a reference that crosses the network."""
    lines = ["flowchart LR"]
    for service, names in project.topology.services.items():
        lines.append(f"  subgraph {service}")
        lines += [f"    {name}" for name in names]
        lines.append("  end")
    for name, component in project.graph.components.items():
        for reference in component.references:
            same = project.topology.service_of(name) == project.topology.service_of(reference.target)
            lines.append(f"  {name} {'-->' if same else '-.->'} {reference.target}")
    return "\n".join(lines)


def as_json(project: Project) -> str:
    """The same for programs."""
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

"""`fissile call`: one method of a running application, over its HTTP/JSON API."""

import http.client
import sys
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import msgspec
import typer

from fissile.errors import ConfigError
from fissile.supervisor.sockets import Endpoints, read_endpoints

ANSWER_SECONDS_MAX = 60.0


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("call")(call_command)


def call_command(
    method: Annotated[str, typer.Argument(help="Component.method")],
    arguments: Annotated[str, typer.Argument(help="the arguments as a JSON object")] = "{}",
    path: Annotated[Path, typer.Option(help="folder with fissile.toml")] = Path(),
) -> None:
    """Call a method of the application that runs in a folder, and print its result as JSON."""
    endpoints = read_endpoints(path)
    component, _, name = method.partition(".")
    gateway = _gateway(endpoints, component)
    if not name:
        raise ConfigError(f"{method!r} names no method", remedy="write Component.method; `fissile graph` lists them")
    status, answer = _post(gateway, f"/rpc/{component}/{name}", arguments.encode(), endpoints.token)
    if status == http.HTTPStatus.OK:
        sys.stdout.write(answer.decode().rstrip("\n") + "\n")
        return
    print(f"fissile: {_problem(answer)}", file=sys.stderr)
    raise typer.Exit(1)


def _gateway(endpoints: Endpoints, component: str) -> str:
    for service in endpoints.services.values():
        if component in service.components:
            return service.gateway
    known = ", ".join(name for service in endpoints.services.values() for name in service.components)
    raise ConfigError(f"{endpoints.application} has no component {component!r}", remedy=f"use one of {known}")


def _post(gateway: str, path: str, body: bytes, token: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(urlsplit(gateway).netloc, timeout=ANSWER_SECONDS_MAX)
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    try:
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except OSError as error:
        raise ConfigError(f"{gateway} does not answer: {error}", remedy="see whether the service runs") from None
    finally:
        connection.close()


def _problem(answer: bytes) -> str:
    try:
        document: dict[str, Any] = msgspec.json.decode(answer, type=dict[str, Any])
    except msgspec.DecodeError:
        return answer.decode(errors="replace")
    text = f"{document.get('title')}: {document.get('detail')}"
    fields = document.get("fields")
    text += f" {msgspec.json.encode(fields).decode()}" if fields else ""
    remedy = document.get("remedy")
    return f"{text}\n  → {remedy}" if remedy else text

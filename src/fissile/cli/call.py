"""`fissile call`: one method of a running application, over its HTTP/JSON API."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from fissile.cli.arguments import Parser, in_folder

if TYPE_CHECKING:
    from http.client import HTTPResponse

    from fissile.api.discovery import Endpoints, ServiceEndpoints


USAGE = "COMPONENT.METHOD [ARGUMENTS] [OPTIONS]"
# A person tries a method: no program depends on it.
OPERATOR = {"Fissile-Caller": "operator"}


def arguments(parser: Parser) -> None:
    """What the command takes."""
    parser.option("method", metavar="COMPONENT.METHOD", help="what to call")
    parser.option("given", nargs="?", default="{}", metavar="ARGUMENTS", help="the arguments as a JSON object")
    in_folder(parser)
    parser.flag("--json", help="print the result as one line of JSON")


def call(method: str, given: str, folder: Path, json: bool) -> int:
    """Call a method of the application that runs, and print its result as JSON.

    Example:
      fissile call Pricing.quote '{"product": 7}'
    """
    from fissile.api.discovery import read_endpoints
    from fissile.errors import ConfigError

    component, _, name = method.partition(".")
    if not component or not name:
        raise ConfigError(f"{method!r} names no method", remedy="write Component.method; `fissile graph` lists them")
    body = _object(given)
    endpoints = read_endpoints(folder)
    service = service_of(component, endpoints)
    return _post(service.gateway, f"/rpc/{component}/{name}", body, service.token or endpoints.token, json)


def _object(text: str) -> bytes:
    """The arguments, as they are sent. Raises ConfigError where they are not a JSON object."""
    import json

    from fissile.errors import ConfigError

    try:
        given = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"the arguments are not JSON: {error}", remedy="write them as in: '{\"id\": 1}'") from None
    if not isinstance(given, dict):
        raise ConfigError("the arguments are not a JSON object", remedy="name each, as in: '{\"id\": 1}'")
    return text.encode()


def service_of(component: str, endpoints: "Endpoints") -> "ServiceEndpoints":
    """The service that a component is in. Raises ConfigError, with what else can be asked and how."""
    from fissile.cli.arguments import guess
    from fissile.errors import ConfigError

    services = endpoints.services
    for service in services.values():
        if component in service.components:
            return service
    known = [name for service in services.values() for name in service.components]
    if component in services and not services[component].components:
        raise ConfigError(
            f"{component} is a program: it has no methods, and is asked over HTTP as any other",
            remedy=_asked({component: services[component]}),
        )
    if not known:
        raise ConfigError(
            f"{endpoints.application} has no components, so there is no method to call", remedy=_asked(services)
        )
    raise ConfigError(
        f"{endpoints.application} has no component {component!r}{guess(component, known)}",
        remedy=f"use one of {', '.join(known)}",
    )


def _asked(services: "dict[str, ServiceEndpoints]") -> str:
    """How programs are asked."""
    ways = [f"`curl {address}/`" for one in services.values() for address in _addresses(one)]
    return f"use {' or '.join(ways)}" if ways else "see `fissile status`"


def _addresses(service: "ServiceEndpoints") -> list[str]:
    return list(dict.fromkeys(one for one in (*service.public.values(), service.gateway) if one.startswith("http")))


def _post(gateway: str, path: str, body: bytes, token: str, compact: bool) -> int:
    """Call, and print what comes; the exit code. The method's own deadline bounds the wait."""
    import http.client
    from urllib.parse import quote, urlsplit

    from fissile.cli import EXIT_FAILED
    from fissile.cli.output import complain

    connection = http.client.HTTPConnection(urlsplit(gateway).netloc)
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json", **OPERATOR}
    try:
        connection.request("POST", quote(path), body, headers)
        answer = connection.getresponse()
        if answer.getheader("content-type", "").startswith("application/x-ndjson"):
            return _print_stream(answer)
        return _print_result(answer, compact)
    except (OSError, http.client.HTTPException) as error:
        complain(
            f"{gateway} does not answer: {error or type(error).__name__}\n"
            "  → see its log: where `fissile run` prints, or `fissile logs`"
        )
        return EXIT_FAILED
    finally:
        connection.close()


def _print_result(answer: "HTTPResponse", compact: bool) -> int:
    import json

    from fissile.cli import EXIT_FAILED
    from fissile.cli.output import complain, say

    text = answer.read()
    if answer.status == 200:
        say(_shown(json.loads(text), compact))
        return 0
    try:
        complain(describe(json.loads(text)))
    except ValueError:
        complain(f"HTTP {answer.status}: {text[:500].decode(errors='replace')}")
    return EXIT_FAILED


def _print_stream(answer: "HTTPResponse") -> int:
    """One item per line; an error ends it."""
    import json

    from fissile.cli import EXIT_FAILED
    from fissile.cli.output import complain, say

    for line in answer:
        message = json.loads(line)
        if "error" in message:
            complain(describe(message["error"]))
            return EXIT_FAILED
        say(_shown(message["item"], compact=True))
    return 0


def _shown(value: Any, compact: bool) -> str:
    import json

    if compact:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return json.dumps(value, ensure_ascii=False, indent=2)


def describe(problem: dict[str, Any]) -> str:
    """A problem document in words: what, where, the fields of a declared error, the next step."""
    title, detail = str(problem.get("title", "")), str(problem.get("detail", ""))
    where = f" in {problem['origin']}" if problem.get("origin") else ""
    what = f"{problem.get('exception') or title}{where}"
    fields: dict[str, Any] = problem.get("fields") or {}
    lines = [f"{what}: {detail}" if detail else what, *(f"  {name}: {value}" for name, value in fields.items())]
    if problem.get("remedy"):
        lines.append(f"  → {problem['remedy']}")
    return "\n".join(lines)

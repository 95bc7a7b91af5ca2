"""What a package.json starts, and how that learns its port."""

import re
from typing import Any, cast

from fissile.settings.proposal.folder import Folder, parent
from fissile.settings.proposal.proposal import PORT, Service, service_name
from fissile.settings.proposal.sources import package

# Servers for those who write the page; production serves what they have built.
FOR_DEVELOPERS = re.compile(
    r"\b(?:vite|webpack|react-scripts|parcel|ng serve|next dev|nuxt dev|nodemon|vue-cli-service)\b"
)
# Servers that take PORT by themselves.
TAKE_PORT = re.compile(r"\b(?:next start|nuxt start|remix-serve|react-router-serve)\b")
_SCRIPT = re.compile(r"[\w./-]+\.(?:js|mjs|cjs|ts)\b")
_LISTENS = re.compile(r"\.listen\(\s*(?:\{\s*port:\s*)?(?P<port>\d{2,5})\b")


def node_service(folder: Folder, path: str, told: list[str]) -> Service | None:
    """The service of one package.json, or None where it starts nothing for production.

    told: what could not be told is appended.
    """
    place = parent(path)
    document = package(folder, path)
    scripts = cast(dict[str, Any], document.get("scripts")) if isinstance(document.get("scripts"), dict) else {}
    start = str(scripts.get("start", ""))
    main = str(document.get("main", "")) or "index.js"
    if start and FOR_DEVELOPERS.search(start) and not TAKE_PORT.search(start):
        told.append(
            f"{path} starts a server for developers ({start}): serve what its build makes from your application"
        )
        return None
    within = "" if place == "." else f"{place}/"
    if not start and not folder.has(f"{within}{main}"):
        return None  # a package that is only built, or used by others
    script = _SCRIPT.search(start)
    text = folder.texts.get(f"{within}{(script[0] if script else '' if start else main).removeprefix('./')}", "")
    service = Service(
        service_name("web" if place == "." else place.rpartition("/")[2]),
        "command",
        "npm start" if start else f"node {main}",
        f"{path}: {'scripts.start = ' + start if start else 'main'}",
        folder=place,
        port=PORT,
        ready="tcp",
    )
    return _with_port(service, text, start, told)


def _with_port(service: Service, text: str, start: str, told: list[str]) -> Service:
    import msgspec

    if re.search(r"\bfd:\s*3\b|LISTEN_FDS", text):
        return msgspec.structs.replace(
            service, ports="inherited", notes=(*service.notes, 'It listens on file descriptor 3: ports = "inherited".')
        )
    if "process.env.PORT" in text or "env.PORT" in text or TAKE_PORT.search(start):
        return service
    fixed = _LISTENS.search(text)
    if fixed is not None and 1024 <= int(fixed["port"]) <= 65535:
        return msgspec.structs.replace(
            service,
            port=int(fixed["port"]),
            notes=(*service.notes, "Its code has this port: one process can have it. Let it take process.env.PORT."),
        )
    told.append(f"{service.name}: how `{service.runs}` learns its port: it has to listen on process.env.PORT")
    return service

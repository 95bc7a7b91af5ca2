"""What a Compose file says of an application: services that are built here, and databases and caches beside them.

Source: the Compose specification (compose-spec.io).
"""

import re
from collections.abc import Mapping
from typing import Any, cast

import msgspec

NAMES = ("compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml")
# Images of what an application needs and does not consist of: its name for people, and its usual port.
STORES = {
    "postgres": ("PostgreSQL", 5432), "postgis": ("PostgreSQL", 5432), "timescaledb": ("PostgreSQL", 5432),
    "pgvector": ("PostgreSQL", 5432),
    "mysql": ("MySQL", 3306), "mariadb": ("MariaDB", 3306), "mongo": ("MongoDB", 27017),
    "redis": ("Redis", 6379), "valkey": ("Valkey", 6379), "keydb": ("KeyDB", 6379), "memcached": ("Memcached", 11211),
    "rabbitmq": ("RabbitMQ", 5672), "nats": ("NATS", 4222), "kafka": ("Kafka", 9092),
    "elasticsearch": ("Elasticsearch", 9200), "opensearch": ("OpenSearch", 9200), "minio": ("MinIO", 9000),
}  # fmt: skip


class Store(msgspec.Struct, frozen=True):
    """A database, cache or queue beside the application. port: where this machine reaches it; 0: nowhere."""

    name: str
    product: str
    usual: int
    port: int = 0

    def reach(self) -> str:
        """How the application reaches it when it does not run in a container."""
        if self.port:
            return f"{self.product} ({self.name}) is at 127.0.0.1:{self.port} once `docker compose up {self.name}` runs"
        return (
            f"{self.product} ({self.name}) is published at no port of this machine: add ports: "
            f'["127.0.0.1:{self.usual}:{self.usual}"] to it in the Compose file, or install it here'
        )


class Built(msgspec.Struct, frozen=True):
    """A service that is built from this folder, or started from it.

    Attributes:
        name: As the file names it.
        context: The folder that it is built from.
        dockerfile: Its Dockerfile.
        command: Its command line as text or words; "" where the image's own counts.
        port: Where this machine reaches it; 0: nowhere.
        environment: Its variables.
        env_files: Files with more of them.
        after: Services that it depends on.
    """

    name: str
    context: str = "."
    dockerfile: str = "Dockerfile"
    command: str | tuple[str, ...] = ""
    port: int = 0
    environment: Mapping[str, str] = {}
    env_files: tuple[str, ...] = ()
    after: tuple[str, ...] = ()


class Composed(msgspec.Struct, frozen=True):
    """What one Compose file says. others: services of images that are neither built here nor known."""

    built: tuple[Built, ...] = ()
    stores: tuple[Store, ...] = ()
    others: tuple[tuple[str, str], ...] = ()


def composed(document: Any) -> Composed:
    """The services of a Compose file as it was parsed; what has another shape is left out."""
    services = cast(dict[str, Any], document).get("services") if isinstance(document, dict) else None
    built: list[Built] = []
    stores: list[Store] = []
    others: list[tuple[str, str]] = []
    for name, service in (cast(dict[str, Any], services) if isinstance(services, dict) else {}).items():
        table = cast(dict[str, Any], service) if isinstance(service, dict) else {}
        image = str(table.get("image", ""))
        product = STORES.get(re.split(r"[:@]", image.rpartition("/")[2])[0])
        if "build" not in table and product is not None:
            stores.append(Store(name, *product, port=_published(table.get("ports"))))
        elif "build" not in table and image:
            others.append((name, image))
        else:
            built.append(_built(name, table))
    return Composed(tuple(built), tuple(stores), tuple(others))


def _built(name: str, table: Mapping[str, Any]) -> Built:
    build = table.get("build", ".")
    details = cast(dict[str, Any], build) if isinstance(build, dict) else {"context": build}
    command = table.get("command") or table.get("entrypoint") or ""
    return Built(
        name,
        context=_folder(str(details.get("context", "."))),
        dockerfile=str(details.get("dockerfile", "Dockerfile")),
        command=tuple(map(str, cast(list[Any], command))) if isinstance(command, list) else str(command),
        port=_published(table.get("ports")),
        environment=_variables(table.get("environment")),
        env_files=tuple(map(_file, _several(table.get("env_file")))),
        after=tuple(map(str, _several(table.get("depends_on")))),
    )


def _folder(text: str) -> str:
    return text.removeprefix("./").rstrip("/") or "."


def _file(value: Any) -> str:
    """The name of a file of variables, in the short form or in the long one."""
    return str(cast(dict[str, Any], value).get("path", "")) if isinstance(value, dict) else str(value)


def _several(value: Any) -> list[Any]:
    """A text, a list or the keys of a mapping, as a list."""
    if isinstance(value, dict):
        return list(cast(dict[str, Any], value))
    return cast(list[Any], value) if isinstance(value, list) else [value] if value else []


def _variables(value: Any) -> dict[str, str]:
    if isinstance(value, dict):
        return {name: str(one) for name, one in cast(dict[str, Any], value).items()}
    pairs = (str(one).partition("=") for one in _several(value))
    return {name: text for name, equals, text in pairs if equals}


def _published(value: Any) -> int:
    """The first port of this machine that is passed on: "8000:80", "127.0.0.1:8000:80", {published: 8000}."""
    for one in _several(value):
        if isinstance(one, dict):
            text = str(cast(dict[str, Any], one).get("published", ""))
        else:
            plain = re.sub(r"\$\{\w+:?-(\d+)\}", r"\1", str(one))
            parts = plain.partition("/")[0].split(":")
            text = parts[-2] if len(parts) > 1 else ""
        if text.isdecimal() and 0 < int(text) <= 65535:
            return int(text)
    return 0

"""An application in each way in which it may run in the foreground."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from commands import Run

APPLICATION = 'app = "a:app"\n'
WAYS = {
    "monolith": (APPLICATION, "monolith"),
    "microservices": (APPLICATION, "microservices"),
    "spawned": (APPLICATION + "[services.pages]\nspawn = true\n", "microservices"),
    "guest": ('[services.pages]\nasgi = "a:page"\n', "microservices"),
}
# For tests of their own.
OTHERS = {
    "three replicas": (APPLICATION + "[services.pages]\nreplicas = 3\n", "microservices"),
}


@contextmanager
def application(folder: Path, way: str, code: str) -> Iterator[tuple[Run, str]]:
    """It runs, and has a page there. code: of a module with an ASGI app `page`, a component Pages and `app`."""
    text, topology = (WAYS | OTHERS)[way]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "a.py").write_text(code)
    (folder / "fissile.toml").write_text(text)
    with Run(folder, "--topology", topology, sign="stops it") as run:
        found = re.search(r"^pages\s+(http://\S+)$", run.output, re.MULTILINE | re.IGNORECASE)
        assert found is not None, run.output
        yield run, found[1]

"""An application under `fissile up`, on a copy of its folder, with all the processes that it has."""

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

COMMAND = (sys.executable, "-m", "fissile")


class Running:
    """Up from the start until `down`.

    services: tables of fissile.toml by service, added to what the folder has.
    """

    def __init__(self, source: Path, folder: Path, topology: str, services: Mapping[str, Mapping[str, int]]) -> None:
        shutil.copytree(source, folder, ignore=shutil.ignore_patterns(".*", "__pycache__"))
        self.folder = folder
        with (folder / "fissile.toml").open("a") as toml:
            for service, table in services.items():
                toml.write(f"\n[services.{service}]\n" + "".join(f"{key} = {value}\n" for key, value in table.items()))
        self._endpoints = json.loads(self._run("up", str(folder), "--topology", topology, "--port", "0", "--json"))
        self.supervisor: int = self._endpoints["pid"]

    def _run(self, *words: str) -> str:
        result = subprocess.run([*COMMAND, *words], capture_output=True, text=True, check=False)
        if result.returncode != 0:
            raise RuntimeError(f"fissile {' '.join(words)} failed:\n{result.stdout}{result.stderr}")
        return result.stdout

    def public(self, component: str) -> str:
        """The address of a component's pages."""
        services: dict[str, Any] = self._endpoints["services"]
        return next(s["public"][component] for s in services.values() if component in s["public"])

    def replicas(self) -> list[int]:
        """The pids of all replicas."""
        status = json.loads(self._run("status", str(self.folder), "--json"))
        return [replica["pid"] for service in status["services"] for replica in service["replicas"]]

    def pids(self) -> set[int]:
        """All processes: supervisor, zygotes (found as the parents of replicas), replicas, spares."""
        replicas = self.replicas()
        zygotes = {psutil.Process(pid).ppid() for pid in replicas} - {self.supervisor}
        spares = [child.pid for pid in zygotes for child in psutil.Process(pid).children()]
        return {self.supervisor, *zygotes, *replicas, *spares}

    def down(self) -> None:
        """Stop all of it."""
        self._run("down", str(self.folder))

"""Pins what a fresh environment gets: dev.txt for developing, docs.txt for the documentation, bench.txt for peers."""

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

HERE = Path(__file__).parent
HEADER = "# Made by `make lock`. Exact versions of what {source} asks for.\n"


def freeze(python: Path) -> set[str]:
    """Every installed package with its exact version, this project left out."""
    listed = subprocess.run(
        [python, "-m", "pip", "freeze", "--exclude", "fissile"], check=True, capture_output=True, text=True
    )
    return {line for line in listed.stdout.splitlines() if "==" in line}


def main() -> None:
    """Install into a new environment, and write down what came."""
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = Path(folder) / "bin" / "python"
        install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*install, f"{HERE.parent}[polyglot,shop,testing]", "hatchling", "editables"], check=True)
        subprocess.run([*install, "-r", HERE / "dev.in"], check=True)
        developing = freeze(python)
        write("dev", developing)
        for name in ("docs", "bench"):
            known = freeze(python)
            subprocess.run([*install, "-r", HERE / f"{name}.in"], check=True)
            write(name, freeze(python) - known)


def write(name: str, lines: set[str]) -> None:
    """Write one lock file."""
    text = HEADER.format(source=f"{name}.in") + "".join(f"{line}\n" for line in sorted(lines, key=str.lower))
    (HERE / f"{name}.txt").write_text(text)
    sys.stdout.write(f"{name}.txt: {len(lines)} packages\n")


if __name__ == "__main__":
    main()

"""Worlds by seed, and the seeds that were kept."""

from pathlib import Path
from random import Random

from fissile.simulation.dice import Chance, Dice

FILE = Path(__file__).parent / "seeds.txt"


def seeded(seed: int) -> Chance:
    """All chance of one world."""

    def dice(name: str) -> Dice:
        return Random(f"{seed} {name}" if name else seed)

    return dice


def kept() -> list[int]:
    """Seeds of `troubled` worlds that failed once."""
    return [int(line.split()[0]) for line in FILE.read_text().splitlines() if line[:1] != "#"]

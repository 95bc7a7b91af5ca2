from pathlib import Path

import msgspec

from fissile import component


class ShelfConfig(msgspec.Struct, frozen=True):
    file: str = "books.txt"


@component
class Shelf:
    def __init__(self, config: ShelfConfig) -> None:
        self._file = Path(config.file)

    async def add(self, title: str) -> None:
        with self._file.open("a") as file:
            file.write(title + "\n")

    async def titles(self) -> list[str]:
        return self._file.read_text().splitlines() if self._file.exists() else []

    async def name(self) -> str:
        return "The oak shelf"

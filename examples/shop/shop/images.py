"""Images: a store of pictures. Each original is made once; thumbnails are made when asked for, then kept."""

import asyncio
import hashlib
import os
import tempfile
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, NewType

import msgspec
from PIL import Image

from fissile import component, method
from shop import art
from shop.database import DATA_FOLDER

ImageName = NewType("ImageName", str)
Width = Literal[160, 320, 640]

CHUNK_BYTES = 64 * 1024
IN_MEMORY_MAX = 500


class Picture(msgspec.Struct, frozen=True):
    """An encoded picture. version: changes when the bytes do."""

    data: bytes
    media_type: str
    version: str


class NoSuchImage(Exception):
    """There is no picture of this name."""


class ImagesConfig(msgspec.Struct, frozen=True):
    """folder: where pictures are kept; replicas may share it. threads: how many are drawn at once."""

    folder: str = str(DATA_FOLDER / "images")
    threads: int = 2


@component(raises=(NoSuchImage,))
class Images:
    """A store of pictures."""

    def __init__(self, config: ImagesConfig) -> None:
        self._folder = Path(config.folder)
        self._threads = ThreadPoolExecutor(config.threads, thread_name_prefix="images")
        self._recent: OrderedDict[tuple[str, int], Picture] = OrderedDict()

    async def start(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)

    async def stop(self) -> None:
        self._threads.shutdown(cancel_futures=True)

    @method(timeout=10, idempotent=True)
    async def thumbnail(self, name: ImageName, width: Width) -> Picture:
        """The picture, so many pixels wide. Raises NoSuchImage."""
        key = (name, width)
        picture = self._recent.get(key)
        if picture is None:
            file = await asyncio.get_running_loop().run_in_executor(self._threads, self._thumbnail, name, width)
            picture = self._recent[key] = Picture(file, "image/webp", hashlib.sha256(file).hexdigest()[:16])
            if len(self._recent) > IN_MEMORY_MAX:
                self._recent.popitem(last=False)
        else:
            self._recent.move_to_end(key)
        return picture

    @method(timeout=20)
    async def original(self, name: ImageName) -> AsyncIterator[bytes]:
        """The picture as it was made, a PNG in chunks. Raises NoSuchImage."""
        data = await asyncio.get_running_loop().run_in_executor(self._threads, self._original, name)
        for start in range(0, len(data), CHUNK_BYTES):
            yield data[start : start + CHUNK_BYTES]

    def _thumbnail(self, name: str, width: int) -> bytes:
        def make(partial: Path) -> None:
            with Image.open(self._kept(f"{name}.png", lambda path: self._draw(name, path))) as original:
                original.thumbnail((width, width), Image.Resampling.LANCZOS)
                original.save(partial, "WEBP", quality=82)

        return self._kept(f"{name}.{width}.webp", make).read_bytes()

    def _original(self, name: str) -> bytes:
        return self._kept(f"{name}.png", lambda path: self._draw(name, path)).read_bytes()

    def _draw(self, name: str, partial: Path) -> None:
        picture = art.draw(name)
        if picture is None:
            raise NoSuchImage(name)
        picture.save(partial, "PNG", compress_level=3)

    def _kept(self, file_name: str, make: Callable[[Path], None]) -> Path:
        """A file of the store, made if it is not there; never seen half-written, not even by another replica."""
        path = self._folder / Path(file_name).name
        if not os.path.exists(path):  # False, too, for a name that no file can have
            descriptor, partial = tempfile.mkstemp(dir=self._folder, prefix=".partial-")
            os.close(descriptor)
            try:
                make(Path(partial))
                os.replace(partial, path)
            except BaseException:
                os.unlink(partial)
                raise
        return path

"""What a zygote was ordered to import, and what was found."""

from pathlib import Path

import msgspec

from fissile.machine.environment import Environment, taken
from fissile.machine.zygote.protocol import Load, Loaded, Settled
from fissile.machine.zygote.settings_files import settings_files
from fissile.releases.manifest import manifest
from fissile.releases.packages import listed
from fissile.runtime.places import edited, places


class ImportedApplication:
    """An order to import, and its outcome.

    Attributes:
        load: The order. A zygote that takes another's place gets the same one.
    """

    def __init__(self, load: Load) -> None:
        if not load.environment.block:
            load = msgspec.structs.replace(load, environment=taken())
        self.load = load
        self._loaded: Loaded | None = None

    def __repr__(self) -> str:
        release = self._loaded.release.name if self._loaded is not None else "not imported yet"
        return f"<ImportedApplication {self.target or self.root} {release}>"

    @property
    def succeeded(self) -> bool:
        """Whether an import has succeeded; the same order then works again."""
        return self._loaded is not None

    @property
    def loaded(self) -> Loaded:
        """The outcome of the latest successful import."""
        assert self._loaded is not None
        return self._loaded

    @property
    def target(self) -> str:
        """What is imported, as "module:attribute"; "" for nothing."""
        return self.load.begin().target

    @property
    def root(self) -> str:
        """The folder of the code."""
        return self.load.settings.root

    @property
    def environment(self) -> Environment:
        """The environment of the zygote and of everything that it starts."""
        return self.load.environment

    def files_now(self, root: Path | None = None) -> dict[str, str]:
        """Return the files of settings that an import would read now.

        Args:
            root: The application's folder, if it is not the one of the order.
        """
        settings = self.load.settings
        folders = [one.folder for one in settings.services.values()]
        copied = manifest(Path(settings.root))
        code = frozenset(copied.files if copied is not None else ())
        return settings_files(root or Path(self.load.source or settings.root), code, *folders)

    def ordered(self, at: float, files: dict[str, str]) -> Load:
        """Return the order, stamped with the time (wall clock) and the files of settings that are there."""
        self.load = msgspec.structs.replace(self.load, at=at, files=files)
        return self.load

    def settle(self, loaded: Loaded) -> None:
        """Keep the outcome. The order means this release from now on, whatever packages are installed later."""
        self._loaded = loaded
        self.load = msgspec.structs.replace(self.load, settled=Settled(loaded.release, loaded.installed))

    def adopt(self, load: Load, loaded: Loaded) -> None:
        """Take the order and the outcome of a zygote that another supervisor has started."""
        self.load = load
        self.settle(loaded)

    @property
    def changed_packages(self) -> str:
        """A warning if packages differ from those that the release was made with; else ""."""
        if self._loaded is None or not self._loaded.missing:
            return ""
        release, missing = self._loaded.release.name, self._loaded.missing
        return f"release {release} runs with other packages than it was deployed with: {listed(missing)}"

    def in_source(self, text: str) -> str:
        """Return a traceback or message with the paths of the files that people edit."""
        return edited(text, places(self.load.settings.root, self.load.source))

"""The last lines of processes that do not come up: they are told together with why."""

from pathlib import Path

from fissile.machine.last_lines import LastLines, told
from fissile.names import SetName
from fissile.runtime.places import edited, places


class StartOutput:
    """What the processes of an application print while they start, by serial, and what is left of that by slot."""

    def __init__(self) -> None:
        self._reading: dict[int, LastLines] = {}
        self._lines: dict[tuple[SetName, int], tuple[str, ...]] = {}

    def begin(self, serial: int, fd: int) -> None:
        """A process is about to be started that will write to this descriptor."""
        self._reading[serial] = LastLines(fd)

    def discard(self, serial: int) -> None:
        """Forget what a process has printed: it came up, or never was there."""
        found = self._reading.pop(serial, None)
        if found is not None:
            found.close()

    def keep(self, serial: int, name: SetName, slot: int, code: str, root: Path) -> tuple[str, ...]:
        """Remember what a process printed that ended as it was starting, and return it; () for any other.

        code: the folder that it ran from, "" where that is not known. root: the application's folder. Lines name the
        files that people edit.
        """
        found = self._reading.pop(serial, None)
        if found is None:
            return ()
        known = places(code, str(root)) if code else {}
        lines = tuple(edited(line, known) for line in found.read())
        self._lines[name, slot] = lines
        found.close()
        return lines

    def of_slot(self, name: SetName, slot: int, trouble: str) -> tuple[str, ...]:
        """What the last process in a slot printed that did not come up, beside its trouble."""
        return told(self._lines.get((name, slot), ()), trouble)

    def of_set(self, name: SetName, trouble: str) -> tuple[str, ...]:
        """What a process of a replica set printed last that did not come up, beside its trouble."""
        found = [lines for (set_name, _), lines in self._lines.items() if set_name == name and lines]
        return told(found[-1], trouble) if found else ()

    def forget_slot(self, name: SetName, slot: int) -> None:
        """A replica has come up there."""
        self._lines.pop((name, slot), None)

    def forget_set(self, name: SetName) -> None:
        """A replica set is no more."""
        for key in [key for key in self._lines if key[0] == name]:
            del self._lines[key]

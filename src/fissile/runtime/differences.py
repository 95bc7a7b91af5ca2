"""What calls within this process would mean otherwise across a wire: each thing is told to the supervisor once."""

from collections.abc import Iterable

from fissile.runtime.control import WireDifference

DIFFERENCES_MAX = 100
CHARACTERS_MAX = 300


class Differences:
    """Of one process. Beyond DIFFERENCES_MAX nothing more is remembered."""

    def __init__(self) -> None:
        # Whether the supervisor of now was told.
        self._told: dict[WireDifference, bool] = {}

    def report(self, method: str, what: str) -> None:
        """A call of a method would have been different across a wire. what: a sentence for people."""
        if len(what) > CHARACTERS_MAX:
            what = what[: CHARACTERS_MAX - 1] + "…"
        found = WireDifference(method, what)
        if found not in self._told and len(self._told) < DIFFERENCES_MAX:
            self._told[found] = False

    def news(self) -> tuple[WireDifference, ...]:
        """What the supervisor was not told."""
        return tuple(found for found, told in self._told.items() if not told)

    def told(self, found: Iterable[WireDifference]) -> None:
        """The supervisor has heard of these."""
        self._told.update(dict.fromkeys(found, True))

    def again(self) -> None:
        """There may be another supervisor now."""
        self._told = dict.fromkeys(self._told, False)

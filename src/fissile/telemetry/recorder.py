"""Counters that every call updates in place: one list of integers per method, no lock, no object."""


class Recorder:
    """The cells in which calls count, by (component, method).

    size: cells per method; their layout belongs to whoever writes them.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self.cells: dict[tuple[str, str], list[int]] = {}

    def observe(self, component: str, method: str) -> list[int]:
        """The cells of a method; the same list each time."""
        return self.cells.setdefault((component, method), [0] * self._size)

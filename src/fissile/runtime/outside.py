"""Which methods were called over HTTP/JSON from outside, until the supervisor has heard of it."""

from collections.abc import Iterable


class Outside:
    """Of one replica. A call costs it one set's `add`."""

    def __init__(self) -> None:
        self.called: set[str] = set()
        self._sent: set[str] = set()
        self._ever: set[str] = set()

    def news(self) -> tuple[str, ...]:
        """The methods ("Component.method") that were called since the supervisor was told."""
        self._sent |= self.called
        self._ever |= self.called
        self.called.clear()
        return tuple(sorted(self._sent))

    def told(self, methods: Iterable[str]) -> None:
        """The supervisor has heard of these.

        Not of all: a report that was under way while another supervisor came says nothing of what is told again.
        """
        self._sent.difference_update(methods)

    def again(self) -> None:
        """There may be another supervisor now, and the one before may not have written all down."""
        self._sent |= self._ever

"""Uvicorn's websockets, as visitors that stay: what they leave unread, and what they send, has limits."""

# pyright: reportUnknownMemberType=false, reportUntypedBaseClass=false
# Which class is the base depends on the library that is installed.

from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.websockets.auto import AutoWebSocketsProtocol

from fissile.runtime.lobby import Lobby, Progress

# A message may come in so many parts: empty ones count for nothing in its size.
PARTS_MAX = 10_000
# From here on a transport has its writers wait.
UNSENT_BYTES = 64 * 1024

Base: Any = AutoWebSocketsProtocol


class WebSocket(Base):
    """A connection that was a visitor's before it became a websocket. The lobby looks at it as at one that is busy."""

    def __init__(self, config: Config, server_state: Any, app_state: dict[str, Any]) -> None:
        super().__init__(config=config, server_state=server_state, app_state=app_state)
        self.transport: Any
        self.lobby: Lobby = server_state.lobby
        self._resumed = 0
        self._sending = Progress()

    def resume_writing(self) -> None:
        """It has been read."""
        self._resumed += 1
        super().resume_writing()

    def watch(self, now: float) -> None:
        """Cut off who leaves unread what is sent, its own pings answered among it, or sends a message without end."""
        unsent = self.transport.get_write_buffer_size()
        awaited = unsent > UNSENT_BYTES or (unsent > 0 and self.transport.is_closing())
        if self._sending.stalled(now, awaited, (self._resumed << 40) - unsent):
            self.lobby.turned_away("did not read what a websocket sent")
            self.transport.abort()
        elif len(getattr(self, "frames", ())) > PARTS_MAX:
            self.lobby.turned_away("sent a websocket message of too many parts")
            self.transport.abort()

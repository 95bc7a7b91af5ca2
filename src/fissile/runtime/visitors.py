"""What visitors send, measured before it is parsed. All doors share this: pages, the gateway, the supervisor's API.

The parser below (llhttp, by httptools and uvicorn) knows no limits: a header that does not end is kept whole, and added
to in quadratic time. So it is fed in pieces. Those of a head are counted, and none holds more than one message where
that can be seen. What follows a request that has to wait for the one before it is not parsed until its turn comes, nor
is more of it read. What is wrong is answered once the answers before it are out, and the visitor is let read that
before the connection is cut.
"""

import re
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, cast

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.utils import get_local_addr, get_remote_addr

from fissile.runtime.lobby import Group, Lobby, Progress

# A head, the trailers of a body, or what stands between two parts of one.
HEAD_BYTES_MAX = 64 * 1024
HEAD_LINES_MAX = 200
# A body in chunks is parsed in pieces of about so many bytes, so that only so much can follow its end unseen.
PIECE_BYTES_MIN = 1024
PIECE_BYTES_MAX = 16 * 1024
# What is read and thrown away of somebody who was refused; the rest stays in the system's buffer.
LEAVING_BYTES_MAX = 256 * 1024
# A body that comes after its answer is read to its end, for the sake of the next request, up to this size.
UNWANTED_BYTES_MAX = 64 * 1024 * 1024
RETRY_SECONDS = 1
# More than any answer has.
UNTOLD_BYTES = 1 << 62

END = b"\r\n\r\n"
# RFC 3986, 3.2: a name, an IPv4 address, or an IPv6 one in brackets; a port.
HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9\-._~!$&'()*+,;=%]+)(?::[0-9]*)?")
ABSOLUTE = re.compile(rb"https?://([^/?#]*)(.*)", re.IGNORECASE | re.DOTALL)

BAD = HTTPStatus.BAD_REQUEST
# The 200 lines or 64 KiB are meant; RFC 6585, 5.
TOO_LARGE = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE


class Refused(Exception):
    """Inside this room: the request is answered by the door, and the connection ends."""

    def __init__(self, status: HTTPStatus, why: str) -> None:
        super().__init__(why)
        self.status = status
        self.why = why


class Flow(FlowControl):
    """Reading stays paused while something that was read already waits for its turn."""

    held = False

    def resume_reading(self) -> None:
        """Read on, unless something waits."""
        if not self.held:
            super().resume_reading()


class Parting:
    """The transport, as a response sees it whose request may still be coming: closed, it lets the visitor read first.

    A socket that is closed with something unread resets the connection, and the visitor may never see the answer.
    """

    __slots__ = ("_visitor", "write")

    def __init__(self, visitor: "Visitor") -> None:
        self._visitor = visitor
        self.write: Callable[[bytes], None] = visitor.transport.write

    def is_closing(self) -> bool:
        """Whether nothing more can be written."""
        return self._visitor.transport.is_closing()

    def close(self) -> None:
        """End the connection."""
        self._visitor.finish()


class OldCycle(RequestResponseCycle):
    """An answer to HTTP/1.0, which knows no chunks: where its length is not told, the end of the connection ends it."""

    async def send(self, message: Any) -> None:
        """Send it without chunks."""
        if message["type"] == "http.response.start":
            if all(name.lower() != b"content-length" for name, _ in message.get("headers", ())):
                self.chunked_encoding, self.expected_content_length = False, UNTOLD_BYTES
        elif self.expected_content_length > UNTOLD_BYTES // 2 and not message.get("more_body", False):
            self.expected_content_length = len(message.get("body", b""))
        await super().send(message)


class Visitor(HttpToolsProtocol):
    """One connection, from its first byte to its last. `server_state.lobby` is where it stands."""

    def __init__(self, config: Config, server_state: Any, app_state: dict[str, Any]) -> None:
        super().__init__(config=config, server_state=server_state, app_state=app_state)
        self.parser: Any
        self.cycle: Any
        self.lobby: Lobby = server_state.lobby
        self.since = 0.0
        self._group: Group = self.lobby.strangers
        self._in_head = True
        # Bytes of the head so far, or of a chunked body since anything of its content came.
        self._counted = 0
        self._tail = b""
        # What is left of a body whose length is known; None in one of chunks.
        self._left: int | None = 0
        self._body_bytes = 0
        self._unwanted_bytes = 0
        self._held = b""
        self._refused: Refused | None = None
        self._left_bytes = 0
        self._resumed = 0
        self._sending = Progress()
        self._reading = Progress()

    def connection_made(self, transport: Any) -> None:
        """Enter the lobby."""
        self.transport = transport
        self.flow = self._flow = Flow(transport)
        self.server = get_local_addr(transport)
        self.client = get_remote_addr(transport)
        self.scheme = "http"
        self.connections.add(self)
        sock = transport.get_extra_info("socket")
        self.lobby.enter(self, sock.fileno() if sock is not None else 0)

    def connection_lost(self, exc: Exception | None) -> None:
        """Leave it."""
        self._group.pop(self, None)
        self._held = b""
        super().connection_lost(exc)

    # What comes in

    def data_received(self, data: bytes) -> None:
        """Parse what may be parsed now."""
        if self._group is self.lobby.leaving:
            self._throw_away(data)
        elif self._held or self.pipeline or self._refused is not None:
            self._hold(self._held + data)
        else:
            self._take(data)

    def _take(self, data: bytes) -> None:
        position = 0
        try:
            while position < len(data):
                position = self._feed(data, position)
                if self.pipeline and position < len(data):
                    self._hold(data[position:])
                    return
        except Refused as refused:
            self._refuse(refused)
            return
        except httptools.HttpParserError as error:
            refused = error.__context__
            self._refuse(refused if isinstance(refused, Refused) else Refused(BAD, "Invalid HTTP request received."))
            return
        if self._in_head and self._counted and self._group is self.lobby.kept:
            self._go(self.lobby.strangers)
        elif not self._in_head and self.cycle.response_complete:
            self._pace(len(data))

    def _feed(self, data: bytes, position: int) -> int:
        """Parse one piece; where the next begins. Raises Refused and HttpParserError."""
        end = self._piece(data, position)
        piece = data if position == 0 and end == len(data) else data[position:end]
        before, was_in_head = self._body_bytes, self._in_head
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserUpgrade as upgrade:
            if self._should_upgrade():
                self._become_websocket()
                return len(data)
            if self._get_upgrade() == b"websocket":
                self.lobby.turned_away("asked for a websocket without `websockets` installed")
            end = position + upgrade.args[0]
            self._begin_head()
        if was_in_head:
            return end
        if self._in_head:
            self._tail = piece[1 - len(END) :]
        elif self._left is None:
            self._counted = 0 if self._body_bytes != before else self._counted + len(piece)
            if self._counted > HEAD_BYTES_MAX:
                raise Refused(TOO_LARGE, "A body may have 64 KiB of trailers, or between two of its parts.")
        return end

    def _piece(self, data: bytes, position: int) -> int:
        """Where the next piece ends. Raises Refused if it has too much of a head."""
        size = len(data)
        if not self._in_head:
            if self._left:
                end = min(size, position + self._left)
                self._left -= end - position
                return end
            end = data.find(END, position + PIECE_BYTES_MIN, position + PIECE_BYTES_MAX)
            return min(size, position + PIECE_BYTES_MAX if end < 0 else end + len(END))
        end = -1
        if self._tail:
            # Its end may have begun in what came before.
            end = (self._tail + data[position : position + len(END) - 1]).find(END)
            end = -1 if end < 0 else end + len(END) - len(self._tail) + position
        if end < 0:
            found = data.find(END, position)
            end = size if found < 0 else found + len(END)
        self._counted += end - position
        if self._counted > HEAD_BYTES_MAX:
            raise Refused(TOO_LARGE, "The head of a request may have 64 KiB.")
        self._tail = data[max(position, end - len(END) + 1) : end] if end == size else b""
        return end

    def _begin_head(self) -> None:
        self._in_head = True
        self._counted = 0
        self._tail = b""

    def _hold(self, data: bytes) -> None:
        """Keep what was read, and read no more, until what is before it has been answered."""
        self._held = data if self._refused is None else b""
        self.flow.pause_reading()
        self._flow.held = True

    def _pace(self, size: int) -> None:
        """Of a body that nobody wants any more, one piece in each turn of the loop, and so much in all."""
        self._unwanted_bytes += size
        if self._unwanted_bytes > UNWANTED_BYTES_MAX:
            self.lobby.turned_away("sent on and on after their answer")
            self.part()
        else:
            self.flow.pause_reading()
            self.loop.call_soon(self.flow.resume_reading)

    # What the parser says

    def on_header(self, name: bytes, value: bytes) -> None:
        """A line of the head. What is declared after the body is not: nobody vouches for it."""
        if not self._in_head:
            return
        headers = self.headers
        if len(headers) >= HEAD_LINES_MAX:
            raise Refused(TOO_LARGE, "The head of a request may have 200 lines.")
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        headers.append((name, value))

    def on_headers_complete(self) -> None:
        """The request begins, if it is well-formed and there is room."""
        version = self.parser.get_http_version()
        self._check_target(self._check_headers(version))
        if self._left != 0 and self.parser.should_upgrade():
            # The parser would take its body for the next request.
            raise Refused(BAD, "A request with a body asks for no other protocol.")
        if not self.lobby.admits(self):
            raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, "All places of this door are taken.")
        self._in_head = False
        self._counted = self._body_bytes = self._unwanted_bytes = 0
        super().on_headers_complete()
        if self._left != 0:
            self.cycle.transport = cast(Any, Parting(self))
        if version == "1.0":
            self.cycle.__class__ = OldCycle
        if self._group is not self.lobby.busy:
            self._go(self.lobby.busy)

    def _check_headers(self, version: str) -> bytes | None:
        """Whom the request is for; sets how long its body is. Raises Refused if that is not said, or not clearly."""
        host: bytes | None = None
        self._left = 0
        for name, value in self.headers:
            if name == b"host":
                if host is not None:
                    raise Refused(BAD, "A request has one Host header.")
                host = value.rstrip(b" \t")
            elif name == b"content-length":
                self._left = int(value)
            elif name == b"transfer-encoding":
                self._left = None
                if value.strip(b" \t").lower() != b"chunked":
                    raise Refused(HTTPStatus.NOT_IMPLEMENTED, "The one transfer coding here is chunked.")
        if version != "1.1":
            if version != "1.0":
                raise Refused(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "The versions here are HTTP/1.1 and HTTP/1.0.")
            if self._left is None:
                raise Refused(BAD, "HTTP/1.0 has no chunks.")
        if host is None:
            if version == "1.1":
                raise Refused(BAD, "A request of HTTP/1.1 has a Host header.")
        elif not HOST.fullmatch(host):
            raise Refused(BAD, "The Host header names no host.")
        return host

    def _check_target(self, host: bytes | None) -> None:
        """Absolute targets, as proxies get them, as if they were ordinary ones (RFC 9112, 3.2.2)."""
        if self.url.startswith(b"/"):
            return
        if self.url == b"*" and self.parser.get_method() == b"OPTIONS":
            return
        found = ABSOLUTE.fullmatch(self.url)
        if found is None or not HOST.fullmatch(found[1]):
            raise Refused(BAD, "The target of the request is neither a path nor an address.")
        self.url = found[2] if found[2].startswith(b"/") else b"/" + found[2]
        if found[1] != host:
            self.headers[:] = [(n, v) for n, v in self.headers if n != b"host"] + [(b"host", found[1])]

    def on_body(self, body: bytes) -> None:
        """Content, which has passed."""
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """What follows is another head."""
        self._begin_head()
        super().on_message_complete()

    def _become_websocket(self) -> None:
        self._group.pop(self, None)
        self.handle_websocket_upgrade()

    # What goes out

    def on_response_complete(self) -> None:
        """The next request of this connection, or a wait for one."""
        self.server_state.total_requests += 1
        if self.transport.is_closing() or self._group is self.lobby.leaving:
            return
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
        elif self._refused is not None:
            self._leave(self._refused)
            return
        elif self._in_head and not self.transport.get_write_buffer_size():
            self._go(self.lobby.strangers if self._counted else self.lobby.kept)
        if self._refused is None:
            self._flow.held = False
            held, self._held = self._held, b""
            if held:
                self._take(held)
            self.flow.resume_reading()

    def resume_writing(self) -> None:
        """The visitor has read."""
        self._resumed += 1
        super().resume_writing()

    # How it ends

    def _go(self, group: Group) -> None:
        self.lobby.move(self, self._group, group)
        self._group = group

    def _refuse(self, refused: Refused) -> None:
        """Answer what is wrong, after the answers to what was right."""
        self.lobby.turned_away(f"got {refused.status.value} {refused.status.phrase}")
        cycle = self.cycle
        if cycle is None or cycle.response_complete:
            if self._in_head:
                self._leave(refused)
            else:
                self.part()  # its answer is out, and what is wrong is the rest of its body
        elif self._in_head:
            self._refused = refused
            self._hold(b"")
        elif self.pipeline:
            # Its body is wrong, and its turn has not come.
            self.pipeline.popleft()
            self._refused = refused
            self._hold(b"")
        else:
            cycle.disconnected = True
            cycle.message_event.set()
            if cycle.response_started:
                self.part()
            else:
                self._leave(refused)

    def _leave(self, refused: Refused) -> None:
        body = f"{refused}\n".encode()
        lines = [
            f"HTTP/1.1 {refused.status.value} {refused.status.phrase}\r\n".encode(),
            *(b"%s: %s\r\n" % header for header in self.server_state.default_headers),
            b"content-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\n" % len(body),
            b"retry-after: %d\r\n" % RETRY_SECONDS if refused.status == HTTPStatus.SERVICE_UNAVAILABLE else b"",
            b"connection: close\r\n\r\n",
            body,
        ]
        self.transport.write(b"".join(lines))
        self.part()

    def finish(self) -> None:
        """Close the connection after an answer, at once where nothing of its request is to come."""
        if self._in_head:
            self.transport.close()
        else:
            self.part()

    def part(self) -> None:
        """Say nothing more, and listen no more; but cut the connection when the visitor has read what was said."""
        if self._group is self.lobby.leaving or self.transport.is_closing():
            return
        self._held = b""
        self._flow.held = False
        self._go(self.lobby.leaving)
        self.transport.write_eof()
        self.flow.resume_reading()

    def _throw_away(self, data: bytes) -> None:
        self._left_bytes += len(data)
        if self._left_bytes > LEAVING_BYTES_MAX:
            self.flow.pause_reading()

    def expire(self) -> None:
        """It was silent, or on its way, for too long."""
        lobby = self.lobby
        if self._group is lobby.leaving and not self.transport.get_write_buffer_size():
            self.transport.abort()
        elif self._group is lobby.strangers and self._counted:
            self._refuse(Refused(HTTPStatus.REQUEST_TIMEOUT, "The head of the request did not come in time."))
        else:
            self._go(lobby.busy)  # until what it was answered has been sent
            self.transport.close()

    def expel(self) -> None:
        """Its place is needed."""
        self._group.pop(self, None)
        self.connections.discard(self)
        self.transport.abort()

    def watch(self, now: float) -> None:
        """End a request that waits for its visitor alone."""
        unsent = self.transport.get_write_buffer_size()
        closing = self.transport.is_closing()
        cycle = self.cycle
        if self._sending.stalled(
            now, self.flow.write_paused or (closing and unsent > 0), (self._resumed << 40) - unsent
        ):
            self.lobby.turned_away("did not read their answer")
            self.transport.abort()
        elif closing or cycle is None:
            return
        elif not self._in_head and self._reading.stalled(now, self._is_awaited(), self._body_bytes):
            self._refuse(Refused(HTTPStatus.REQUEST_TIMEOUT, "The body of the request did not come in time."))
        elif self._in_head and cycle.response_complete and not unsent and not self.pipeline:
            self._go(self.lobby.strangers if self._counted else self.lobby.kept)

    def _is_awaited(self) -> bool:
        return not self.flow.read_paused and not self.cycle.waiting_for_100_continue

"""What visitors send, measured before it is parsed. All doors share this: pages, the gateway, the supervisor's API.

The parser below (llhttp, by httptools and uvicorn) knows no limits: a header that does not end is kept whole, and added
to in quadratic time. So it is fed in pieces. Those of a head are counted, and none holds more than one message where
that can be seen. What follows a request that has to wait for the one before it is not parsed until its turn comes, nor
is more of it read. What is wrong is answered once the answers before it are out, and the visitor is let read that
before the connection is cut.
"""

import asyncio
import logging
import re
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from fissile.runtime.lobby import Group, Lobby, Progress

# A head, the trailers of a body, or what stands between two parts of one.
HEAD_BYTES_MAX = 64 * 1024
HEAD_LINES_MAX = 200
# A body in chunks is parsed in pieces of about so many bytes, so that only so much can follow its end unseen.
PIECE_BYTES_MIN = 1024
PIECE_BYTES_MAX = 16 * 1024
# What is read and thrown away of somebody who was refused; the rest stays in the system's buffer.
LEAVING_BYTES_MAX = 128 * 1024
# A body that comes after its answer is read to its end, for the sake of the next request, up to this size.
UNWANTED_BYTES_MAX = 64 * 1024 * 1024
RETRY_SECONDS = 1
# More than any answer has.
UNTOLD_BYTES = 1 << 62

END = b"\r\n\r\n"
# RFC 3986, 3.2: a name, an IPv4 address, or an IPv6 one in brackets; a port.
HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9\-._~!$&'()*+,;=%]+)(?::[0-9]*)?")
SLASH = ord("/")
FRAMING = frozenset({b"host", b"content-length", b"transfer-encoding"})
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


def _pair(end: Any) -> Any:
    """One end of a connection, as ASGI has it: host and port; the path of a Unix socket."""
    return (str(end[0]), int(end[1])) if isinstance(end, tuple) else (end, None)  # pyright: ignore[reportUnknownArgumentType]


class Visitor(HttpToolsProtocol):
    """One connection, from its first byte to its last. `server_state.lobby` is where it stands.

    What a usual request passes through is written without the calls in between that would cost as much as it does.
    """

    app: Any
    pipeline: deque[Any]
    parser: Any
    cycle: Any = None
    since = 0.0
    # Where it stands, unless it is busy.
    _group: Group | None = None
    _in_head = True
    # Nothing of the next head has come, and nothing waits for its turn.
    _fresh = True
    # Bytes of the head so far, or of a chunked body since anything of its content came.
    _counted = 0
    _tail = b""
    # How long the body is; None in one of chunks.
    _length: int | None = 0
    _body_bytes = 0
    _unwanted_bytes = 0
    _held = b""
    _refused: Refused | None = None
    _left_bytes = 0
    _resumed = 0
    _host: bytes | None = None
    _sending: Progress | None = None
    _reading: Progress | None = None
    # Whose body that is about: each has its own time.
    _read: Any = None

    # As uvicorn's are made, without what costs twice as much as the rest of a connection.
    logger = logging.getLogger("uvicorn.error")
    access_logger = logging.getLogger("uvicorn.access")
    access_log = False
    timeout_keep_alive_task = None
    limit_concurrency = None
    scheme = "http"
    expect_100_continue = False

    def __init__(self, config: Config, server_state: Any, app_state: dict[str, Any]) -> None:
        self.config = config
        self.app = config.loaded_app
        self.loop = asyncio.get_running_loop()
        self.parser = httptools.HttpRequestParser(self)
        with suppress(AttributeError):  # before httptools 0.6.3
            # What follows a request that ends its connection is not looked at, instead of spoiling its answer.
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self.ws_protocol_class = config.ws_protocol_class
        self.root_path = config.root_path
        self.asgi_version = config.asgi_version
        self.app_state = app_state
        self.server_state = server_state
        self.connections = server_state.connections
        self.tasks = server_state.tasks
        self.pipeline = deque()
        self.headers = []
        self.lobby: Lobby = server_state.lobby

    def connection_made(self, transport: Any) -> None:
        """Enter the lobby."""
        self.transport = transport
        self.flow = self._flow = Flow(transport)
        name = transport.get_extra_info
        self.server = _pair(name("sockname") or None)
        client = name("peername")
        self.client = _pair(client) if isinstance(client, tuple) else None
        self.connections.add(self)
        self._group = self.lobby.strangers
        self.lobby.enter(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Leave it."""
        group, self._group = self._group, None
        if group is not None:
            group.pop(self, None)
        self.connections.discard(self)
        self._fresh = False
        self._held = b""
        cycle = self.cycle
        if cycle is not None:
            cycle.disconnected = cycle.disconnected or not cycle.response_complete
            cycle.message_event.set()
        self.flow.resume_writing()
        if exc is None:
            self.transport.close()
        self.parser = None

    # What comes in

    def data_received(self, data: bytes) -> None:
        """Parse what may be parsed now."""
        if self._fresh and len(data) <= HEAD_BYTES_MAX and data.count(END) == 1:
            # The end of one head, and of no more: the usual case.
            try:
                self.parser.feed_data(data)
            except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
                self._stumble(error, data, 0)
            else:
                if self._length != 0 or data[-4:] != END:
                    self._settle(data)
        elif self._group is self.lobby.leaving:
            self._throw_away(data)
        elif self._held or self.pipeline or self._refused is not None:
            self._hold(self._held + data)
        else:
            self._take(data)

    def _settle(self, data: bytes) -> None:
        """Count what came after a head in one piece with it."""
        if self._in_head:
            if self._length is not None:
                more = len(data) - data.find(END) - len(END) - self._length
                if not more:
                    return  # a body, and nothing else
                self._counted = more if more > 0 else len(data)
            self._tail = data[1 - len(END) :]
            if len(self.headers) > HEAD_LINES_MAX:
                self._refuse(Refused(TOO_LARGE, "The head of a request may have 200 lines."))
                return
        self._after(len(data))

    def _take(self, data: bytes) -> None:
        """Parse piece by piece, as far as is allowed."""
        position = 0
        while position < len(data):
            try:
                end = self._piece(data, position)
                piece = data if position == 0 and end == len(data) else data[position:end]
                before, was_in_head = self._body_bytes, self._in_head
                self.parser.feed_data(piece)
                self._count(piece, before, was_in_head)
            except (Refused, httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
                end = self._stumble(error, data, position)
            position = end
            if self.pipeline and position < len(data):
                self._hold(data[position:])
                return
        self._after(len(data))

    def _after(self, size: int) -> None:
        """What was parsed may have been the beginning of a further head, or the rest of what nobody waits for."""
        if self._in_head:
            if self._counted:
                self._fresh = False
                if self._group is self.lobby.kept:
                    self._go(self.lobby.strangers)
        elif self._group is None:
            if self.cycle.response_complete:
                self._pace(size)
            elif self.cycle.transport is self.transport:
                self.cycle.transport = Parting(self)

    def _piece(self, data: bytes, position: int) -> int:
        """Where the next piece ends. Raises Refused if it has too much of a head."""
        size = len(data)
        if not self._in_head:
            if self._length is not None and self._length > self._body_bytes:
                return min(size, position + self._length - self._body_bytes)
            end = data.find(END, position + PIECE_BYTES_MIN, position + PIECE_BYTES_MAX)
            return min(size, position + PIECE_BYTES_MAX if end < 0 else end + len(END))
        self._fresh = False
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

    def _count(self, piece: bytes, body_bytes: int, was_in_head: bool) -> None:
        """Hold what was parsed to the limits. Raises Refused."""
        if was_in_head:
            if self._in_head and len(self.headers or ()) > HEAD_LINES_MAX:
                raise Refused(TOO_LARGE, "The head of a request may have 200 lines.")
        elif self._in_head:
            self._tail = piece[1 - len(END) :]
        elif self._length is None:
            self._counted = 0 if self._body_bytes != body_bytes else self._counted + len(piece)
            if self._counted > HEAD_BYTES_MAX:
                raise Refused(TOO_LARGE, "A body may have 64 KiB of trailers, or between two of its parts.")

    def _stumble(self, error: Exception, data: bytes, position: int) -> int:
        """The parser stopped: because of another protocol, or because it is none. Where to go on."""
        if not isinstance(error, httptools.HttpParserUpgrade):
            why = error if isinstance(error, Refused) else error.__context__
            self._refuse(why if isinstance(why, Refused) else Refused(BAD, "Invalid HTTP request received."))
        elif self._should_upgrade():
            self._go(None)
            self._fresh = False
            self.handle_websocket_upgrade()
        else:
            if self._get_upgrade() == b"websocket":
                self.lobby.turned_away("asked for a websocket without `websockets` installed")
            rest = position + error.args[0]
            self._counted = 0
            if position == 0 and rest < len(data):
                self.data_received(data[rest:])
            else:
                return rest
        return len(data)

    def _hold(self, data: bytes) -> None:
        """Keep what was read, and read no more, until what is before it has been answered."""
        self._held = data if self._refused is None else b""
        self._fresh = False
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

    def on_headers_complete(self) -> None:
        """The request begins, if it is well-formed and there is room."""
        parser, headers = self.parser, self.headers
        version = parser.get_http_version()
        framing = [header for header in headers if header[0] in FRAMING]
        if version == "1.1" and len(framing) == 1 and framing[0][1] == self._host and len(headers) <= HEAD_LINES_MAX:
            self._length = 0
        else:
            self._check_framing(version, framing)
        if self.url[0] != SLASH or b"#" in self.url:
            self._check_target()
        lobby = self.lobby
        if len(self.tasks) >= lobby.connections_max or lobby.crowded:
            self._check_room()
        upgrading = parser.should_upgrade()
        if upgrading and self._length != 0:
            # The parser would take its body for the next request.
            raise Refused(BAD, "A request with a body asks for no other protocol.")
        if self._group is not None:
            del self._group[self]
            self._group = None
        self._in_head = self._fresh = False
        self._counted = self._body_bytes = 0
        self.scope["method"] = parser.get_method().decode("ascii")
        if self._length is None:
            # What the parser may still say belongs to the trailers: nobody vouches for them.
            self.headers = []
        if not upgrading or not self._should_upgrade():
            self._begin(version)

    def _begin(self, version: str) -> None:
        """Have the request answered, or wait for its turn."""
        scope: Any = self.scope
        raw_path, _, scope["query_string"] = self.url.partition(b"?")
        path = raw_path.decode("ascii")
        scope["path"] = unquote(path) if "%" in path else path
        scope["raw_path"] = raw_path
        before = self.cycle
        self.cycle = cycle = RequestResponseCycle(
            scope=scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=version == "1.1" and self.parser.should_keep_alive(),
            on_response=self.on_response_complete,
        )
        if version == "1.0":
            scope["http_version"] = version
            cycle.__class__ = OldCycle
        if before is None or before.response_complete:
            self._start_asgi_task(cycle, self.app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, self.app))

    def _check_framing(self, version: str, framing: list[tuple[bytes, bytes]]) -> None:
        """Whom the request is for, and how long its body is. Raises Refused if that is not said, or not clearly."""
        host: bytes | None = None
        length: int | None = 0
        for name, value in framing:
            if name == b"host":
                if host is not None:
                    raise Refused(BAD, "A request has one Host header.")
                host = value
            elif name == b"content-length":
                length = int(value)
            elif value.strip(b" \t").lower() == b"chunked":
                length = None
            else:
                raise Refused(HTTPStatus.NOT_IMPLEMENTED, "The one transfer coding here is chunked.")
        self._length = length
        self._unwanted_bytes = 0
        if host is None or host != self._host:
            self._check_host(version, host)
        if version != "1.1":
            if version != "1.0":
                raise Refused(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "The versions here are HTTP/1.1 and HTTP/1.0.")
            if length is None:
                raise Refused(BAD, "HTTP/1.0 has no chunks.")
        if len(self.headers) > HEAD_LINES_MAX:
            raise Refused(TOO_LARGE, "The head of a request may have 200 lines.")

    def _check_host(self, version: str, host: bytes | None) -> None:
        if host is not None:
            if not HOST.fullmatch(host.rstrip(b" \t")):
                raise Refused(BAD, "The Host header names no host.")
            self._host = host
        elif version == "1.1":
            raise Refused(BAD, "A request of HTTP/1.1 has a Host header.")

    def _check_target(self) -> None:
        """Absolute targets, as proxies get them, as if they were ordinary ones (RFC 9112, 3.2.2); without fragments."""
        self.url = self.url.partition(b"#")[0]
        if self.url.startswith(b"/"):
            return
        if self.url == b"*" and self.parser.get_method() == b"OPTIONS":
            return
        found = ABSOLUTE.fullmatch(self.url)
        if found is None or not HOST.fullmatch(found[1]):
            raise Refused(BAD, "The target of the request is neither a path nor an address.")
        self.url = found[2] if found[2].startswith(b"/") else b"/" + found[2]
        if found[1] != self._host:
            self.headers[:] = [(n, v) for n, v in self.headers if n != b"host"] + [(b"host", found[1])]

    def _check_room(self) -> None:
        if not self.lobby.admits(self):
            raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, "All places of this door are taken.")

    def on_body(self, body: bytes) -> None:
        """Content, which has passed."""
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """What follows is another head."""
        self._in_head = True
        self._counted = 0
        cycle = self.cycle
        if cycle is None or cycle.response_complete or (self.parser.should_upgrade() and self._should_upgrade()):
            return
        cycle.more_body = False
        cycle.message_event.set()

    # What goes out

    def on_response_complete(self) -> None:
        """The next request of this connection, or a wait for one."""
        self.server_state.total_requests += 1
        lobby, transport = self.lobby, self.transport
        if transport.is_closing() or self._group is lobby.leaving:
            return
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
        elif self._refused is not None:
            self._leave(self._refused)
            return
        elif self._in_head and not transport.get_write_buffer_size():
            if not self._counted and not self._held:
                self._fresh = True
                self._group = lobby.kept
                self.since = lobby.now
                lobby.kept[self] = None
                if self._flow.read_paused:
                    self._read_on()
                return
            self._go(lobby.strangers if self._counted else lobby.kept)
        if self._refused is None:
            self._read_on()

    def _read_on(self) -> None:
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

    def _go(self, group: Group | None) -> None:
        """Stand there from now on; None while a request is under way."""
        self.lobby.move(self, self._group, group)
        self._group = group
        if group is not self.lobby.kept:
            self._fresh = False

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
        # Who floods the door is told the end of the connection later, and has to wait until then.
        self.part(end=refused.status != TOO_LARGE)

    def finish(self) -> None:
        """Close the connection after an answer, at once where nothing of its request is to come."""
        if self._in_head:
            self.transport.close()
        else:
            self.part()

    def part(self, *, end: bool = True) -> None:
        """Say nothing more, and listen no more; but cut the connection when the visitor has read what was said."""
        if self._group is self.lobby.leaving or self.transport.is_closing():
            return
        self._held = b""
        self._flow.held = False
        self._go(self.lobby.leaving)
        if end:
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
            self._go(None)  # until what it was answered has been sent
            self.transport.close()

    def expel(self) -> None:
        """Its place is needed."""
        self._go(None)
        self.connections.discard(self)
        self.transport.abort()

    def watch(self, now: float) -> None:
        """End a request that waits for its visitor alone."""
        unsent = self.transport.get_write_buffer_size()
        closing = self.transport.is_closing()
        cycle = self.cycle
        if self._group is not None:
            return
        self._sending = self._sending or Progress()
        if self._reading is None or self._read is not cycle:
            self._reading, self._read = Progress(), cycle
        awaited = self.flow.write_paused or (closing and unsent > 0)
        if self._sending.stalled(now, awaited, (self._resumed << 40) - unsent):
            self.lobby.turned_away("did not read their answer")
            self.transport.abort()
        elif closing or cycle is None:
            return
        elif not self._in_head and self._reading.stalled(now, self._is_awaited(), self._body_bytes):
            self._refuse(Refused(HTTPStatus.REQUEST_TIMEOUT, "The body of the request did not come in time."))
        elif self._in_head and cycle.response_complete and not unsent and not self.pipeline and not self._held:
            self._go(self.lobby.strangers if self._counted else self.lobby.kept)
            self._fresh = not self._counted

    def _is_awaited(self) -> bool:
        return not self.flow.read_paused and not self.cycle.waiting_for_100_continue

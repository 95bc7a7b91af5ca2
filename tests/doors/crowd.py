"""Those who mean harm, as a process of their own: `python -m tests.doors.crowd HOST PORT SEED`.

A thousand connections say nothing, a little more send half a head, and two hundred send the bytes of a head without end
as fast as they are taken, again a tenth of a second after each close. All others come back after a second. It ends with
its standard input, and says how often it was sent away.
"""

import heapq
import json
import random
import resource
import select
import socket
import sys
import time
from contextlib import suppress

IDLE, HALF, FLOODS = 1000, 1100, 200
AGAIN_SECONDS, FLOOD_AGAIN_SECONDS = 1.0, 0.1
HEADS = (
    b"GET / HTTP/1.1\r\nHost: x\r\nX: ",
    b"GET /",
    b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5;",
)
MORE = b"a" * 65536
LINES = b"a: b\r\n" * 10_000
# So many begin in one turn.
BEGIN_MAX = 100
EVENTS = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLERR | select.EPOLLHUP


class Crowd:
    """All of them, in one loop."""

    def __init__(self, address: tuple[str, int], seed: int) -> None:
        self._address = address
        self._chance = random.Random(seed)
        self._poll = select.epoll()
        self._there: dict[int, tuple[socket.socket, str]] = {}
        kinds = ["idle"] * IDLE + ["half"] * HALF + ["flood"] * FLOODS
        self._chance.shuffle(kinds)
        self._due = [(0.0, number, kind) for number, kind in enumerate(kinds)]
        self._number = len(kinds)
        self.sent_away = dict.fromkeys(("idle", "half", "flood"), 0)
        self.bytes = 0

    def turn(self) -> None:
        """What can be done now."""
        now = time.monotonic()
        for _ in range(BEGIN_MAX):
            if not self._due or self._due[0][0] > now:
                break
            self._begin(heapq.heappop(self._due)[2])
        for number, events in self._poll.poll(0.02):
            if number in self._there:
                self._look(number, events)

    def _begin(self, kind: str) -> None:
        sock = socket.socket()
        sock.setblocking(False)
        with suppress(BlockingIOError):
            sock.connect(self._address)
        self._there[sock.fileno()] = (sock, kind)
        # The first time that it can write, it is connected.
        self._poll.register(sock.fileno(), EVENTS | (0 if kind == "idle" else select.EPOLLOUT))

    def _look(self, number: int, events: int) -> None:
        sock, kind = self._there[number]
        try:
            if events & (select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLERR | select.EPOLLHUP):
                answer = sock.recv(65536)
                if not answer or kind != "flood":
                    raise ConnectionResetError
            if kind == "half":
                sock.send(self._chance.choice(HEADS))
                self._poll.modify(number, EVENTS)
            elif kind == "flood":
                self.bytes += sock.send(self._chance.choice((MORE, LINES, b"GET / HTTP/1.1\r\nHost: x\r\nX: ")))
        except BlockingIOError:
            pass
        except OSError:
            self._poll.unregister(number)
            sock.close()
            del self._there[number]
            self.sent_away[kind] += 1
            again = FLOOD_AGAIN_SECONDS if kind == "flood" else AGAIN_SECONDS
            self._number += 1
            heapq.heappush(self._due, (time.monotonic() + again, self._number, kind))


def main() -> None:
    host, port, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    crowd = Crowd((host, port), seed)
    ended = select.poll()
    ended.register(sys.stdin, select.POLLIN | select.POLLHUP)
    while not ended.poll(0):
        crowd.turn()
    print(json.dumps({"sent_away": crowd.sent_away, "megabytes": crowd.bytes >> 20}), flush=True)


if __name__ == "__main__":
    main()

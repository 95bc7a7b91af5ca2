"""One replica that was started by exec: a new interpreter imports everything that it needs.

`exec_replica.py FD...` with the ReplicaSpec as JSON on its input. Never used by Fissile itself: it is
what the zygote is compared with.
"""

import socket
import sys

import msgspec

from fissile.runtime import process
from fissile.runtime.control import ReplicaSpec

if __name__ == "__main__":
    spec = msgspec.json.decode(sys.stdin.buffer.read(), type=ReplicaSpec)
    sockets = [socket.socket(fileno=int(fd)) for fd in sys.argv[1:]]
    sys.exit(process.run(spec, sockets, "unix:/nobody-supervises-it", ""))

"""A replica that is started by exec instead of a fork: for code that cannot be forked (`spawn = true`).

Its order, tokens included, comes in a letter, inherited as descriptor 3; its listening sockets follow. Its
argument is the number of the letter's format: another Fissile may have been installed since its supervisor began.
"""

import os
import socket
import sys
from pathlib import Path

from fissile.formats import PROCESSES
from fissile.machine.stdio import unfailing_output
from fissile.machine.zygote import sealed_letters
from fissile.machine.zygote.child import LISTEN_FDS_START
from fissile.machine.zygote.protocol import Fork
from fissile.runtime import process
from fissile.runtime.forked import keep_from_programs
from fissile.runtime.loading import import_from_copy
from fissile.runtime.unhandled import show_unhandled


def main() -> int:
    """The program."""
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    if not PROCESSES.reads(number):
        print(
            f"this replica was ordered by {PROCESSES.strange(number, '')}: another Fissile was installed meanwhile\n"
            "  → install that one again; or `fissile down`, and `fissile up` with the new one",
            file=sys.stderr,
            flush=True,
        )
        return 1
    order = sealed_letters.read(LISTEN_FDS_START, Fork)
    os.close(LISTEN_FDS_START)
    count = int(os.environ.pop("LISTEN_FDS", "1"))
    os.environ.pop("LISTEN_PID", None)
    unfailing_output()
    keep_from_programs(*range(LISTEN_FDS_START + 1, LISTEN_FDS_START + count))
    sockets = [socket.socket(fileno=LISTEN_FDS_START + number) for number in range(1, count)]
    show_unhandled()
    if order.spec.source:
        import_from_copy(Path(order.spec.source), Path(order.spec.root))
    return process.run(order.spec, sockets, order.control_address, order.control_token)


if __name__ == "__main__":
    sys.exit(main())

"""The process that replicas are forked from: it imports the application once, then forks on demand.

A fork serves within milliseconds and shares the imported code's memory; the heap is frozen first, so
that the collector does not touch, and thereby copy, what is shared. Run as a program with the number
of an inherited socket. Messages on that socket are JSON, one per packet; a fork request brings the
replica's listening sockets and the pipe for its output along.
"""

import contextlib
import ctypes
import gc
import logging
import os
import select
import signal
import socket
import sys
import traceback
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec

from fissile.errors import FissileError
from fissile.runtime.control import ReplicaSpec
from fissile.runtime.loading import load_application
from fissile.runtime.replica import run

MESSAGE_BYTES_MAX = 160 * 1024
DESCRIPTORS_MAX = 64
PR_SET_PDEATHSIG = 1


class Fork(msgspec.Struct, frozen=True, tag="fork"):
    """Fork a replica."""

    spec: ReplicaSpec
    control_address: str
    control_token: str


class Imported(msgspec.Struct, frozen=True, tag="imported"):
    """The application is imported: forks can begin."""


class ImportFailed(msgspec.Struct, frozen=True, tag="import_failed"):
    """The application cannot be imported."""

    message: str


class Forked(msgspec.Struct, frozen=True, tag="forked"):
    """A replica was forked; answers come in the order of the requests."""

    pid: int


class Exited(msgspec.Struct, frozen=True, tag="exited"):
    """A replica ended, with its exit code, or minus the signal's number."""

    pid: int
    code: int


Said = Imported | ImportFailed | Forked | Exited


def main(arguments: list[str]) -> int:
    """Serve fork requests until the supervisor is gone."""
    link = socket.socket(fileno=int(arguments[0]))
    application, root = arguments[1], Path(arguments[2])
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        load_application(application, root)
    except FissileError as error:
        link.send(msgspec.json.encode(ImportFailed(str(error))))
        return 2
    libc = ctypes.CDLL(None, use_errno=True)
    wake, waker = os.pipe()
    os.set_blocking(waker, False)
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, _noted)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    gc.collect()
    gc.freeze()
    link.send(msgspec.json.encode(Imported()))
    while True:
        readable, _, _ = select.select([link, wake], [], [])
        if wake in readable:
            with contextlib.suppress(BlockingIOError):
                os.read(wake, 4096)
            _reap(link)
        if link in readable:
            data, descriptors, _, _ = socket.recv_fds(link, MESSAGE_BYTES_MAX, DESCRIPTORS_MAX)
            if not data:
                return 0  # the supervisor is gone; the replicas get SIGTERM from the kernel
            request = msgspec.json.decode(data, type=Fork)
            pid = os.fork()
            if pid == 0:
                os.close(wake)
                os.close(waker)
                _become_replica(request, descriptors, link, libc)
            for descriptor in descriptors:
                os.close(descriptor)
            link.send(msgspec.json.encode(Forked(pid)))


def _noted(_number: int, _frame: FrameType | None) -> None:
    """The wake-up descriptor tells of it; a handler is needed for Python to write there."""


def _reap(link: socket.socket) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        link.send(msgspec.json.encode(Exited(pid, os.waitstatus_to_exitcode(status))))


def _become_replica(request: Fork, descriptors: list[int], link: socket.socket, libc: Any) -> None:
    """Never returns. Only what the replica needs is left of the zygote."""
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        link.close()
        output, *listening = descriptors
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.close(output)
        sys.stdout.reconfigure(line_buffering=True)  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
        logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s", force=True)
        sockets = [socket.socket(fileno=descriptor) for descriptor in listening]
        code = run(request.spec, sockets, request.control_address, request.control_token)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

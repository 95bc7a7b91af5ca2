"""The zygote: a process that imports the application once and forks replicas of it on demand.

A fork costs a few milliseconds where an exec costs more than a hundred, and replicas share the memory of what was
imported. It has one thread and no event loop, so that a fork copies nothing half done.

It is its replicas' parent and keeps a copy of their listening sockets. So a supervisor may die: the zygote remembers
what there is, and tells the next one all of it. In the foreground, where nothing may be left behind, it ends all
replicas instead.

It knows nothing that one service alone may know: every replica of every service begins with its memory. Secrets pass
through it unread (`sealed_letters`). What has to see all of them at once, the check of the application against its
settings, is done by a child that ends with that (`load`).
"""

import gc
import os
import select
import signal
import socket
import sys
from collections.abc import Iterable
from typing import Any

from fissile.component.graph import Graph
from fissile.errors import FissileError
from fissile.machine import process_marks, process_secrets
from fissile.machine.leftover_processes import Ending, living
from fissile.machine.peers import PeerPolicy, ThrottledLog
from fissile.machine.pidfd import open_pidfd
from fissile.machine.procfs import descendants
from fissile.machine.stdio import flush_output, unfailing_output
from fissile.machine.zygote import child
from fissile.machine.zygote.after_fork import Renewal
from fissile.machine.zygote.child import ForkRequest
from fissile.machine.zygote.load import ImportFindings, import_all, import_application, run_examiner, warm
from fissile.machine.zygote.prefork import PreforkedWorker, wait_for_order
from fissile.machine.zygote.protocol import (
    AckExit,
    AdoptChild,
    Begin,
    ChildExited,
    ChildRunning,
    Drop,
    Examined,
    Exec,
    Exited,
    Fork,
    Forked,
    ForkFailed,
    GetInventory,
    Import,
    Inventory,
    Keep,
    Kept,
    Listen,
    LoadFailed,
    Ping,
    Pong,
    Retire,
    ToZygote,
    clipped,
)
from fissile.machine.zygote.records import ChildRecords
from fissile.machine.zygote.supervisor_link import SupervisorLink
from fissile.runtime.forked import keep_from_programs
from fissile.runtime.unhandled import show_unhandled

# Orders come in bursts: the next child is preforked once it is quiet.
PREFORK_AFTER_SECONDS = 0.1
MILLISECONDS = 1000
WAKE_BYTES = 4096


class Zygote:
    """Serves orders until the supervisor is gone; with `keep`, until all its replicas are gone too.

    Args:
        connection: To the supervisor.
        listener: Where the next supervisor finds it; None if it is to end with this one.
    """

    def __init__(self, connection: socket.socket, listener: socket.socket | None = None) -> None:
        marked = process_marks.own()
        peer_policy = PeerPolicy(marked.application if marked is not None else "", lambda: (os.getpid(),))
        complaints = ThrottledLog(lambda text: print(text, file=sys.stderr, flush=True))
        self._poll = select.poll()
        self._supervisor = SupervisorLink(self._poll, connection, listener, peer_policy, complaints)
        self._children = ChildRecords(self._poll, lambda pid, status: self._supervisor.tell(Exited(pid, status)))
        self._kept: dict[str, int] = {}
        self._prefork: PreforkedWorker | None = None
        self._may_prefork = True
        self._graph: Graph | None = None
        self._outlives_supervisor = False
        # The order to import and its outcome, for the next supervisor.
        self._letters: list[int] = []
        self._renewal = Renewal()
        # A signal does not interrupt poll(2) for good: it is taken up again (PEP 475). So SIGCHLD writes to a pipe that
        # poll watches too. Without blocking: a full pipe has woken it already.
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        signal.signal(signal.SIGCHLD, _wake)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)

    def __repr__(self) -> str:
        return f"<Zygote {os.getpid()} {self._supervisor}, {self._children}>"

    def serve(self) -> ForkRequest | None:
        """Serve until the end. Returns None in the zygote itself, and in each child what the child is for."""
        self._supervisor.open()
        self._poll.register(self._wake_read, select.POLLIN)
        while True:
            graph = self._graph if self._prefork is None and self._may_prefork else None
            seconds = PREFORK_AFTER_SECONDS if graph is not None else self._seconds_to_remember()
            ready = {fd for fd, _ in self._poll.poll(seconds * MILLISECONDS if seconds is not None else None)}
            if not ready and graph is not None:
                request = self._fork_worker(graph)
                if request is not None:
                    return request
            # Ends first: an order may acknowledge one, or take a number that was free.
            if self._wake_read in ready:
                os.read(self._wake_read, WAKE_BYTES)
                self._reap()
            self._children.notice_adopted(ready)
            listener = self._supervisor.knocking(ready)
            # Orders before the other door: anybody may stand there, and as often as he likes.
            if self._supervisor.has_order(ready):
                received = self._supervisor.receive()
                if received is not None:
                    request = self._handle(*received)
                    if request is not None:
                        return request
            if listener is not None:
                self._supervisor.accept(listener)
            if not self._supervisor.is_connected and not self._stays():
                return None

    # -- without a supervisor

    def _seconds_to_remember(self) -> float | None:
        return None if self._supervisor.is_connected else self._children.seconds_to_remember()

    def _stays(self) -> bool:
        """Whether there is something to wait for without a supervisor. If not, leave nothing behind."""
        if self._outlives_supervisor and (self._children.running() or self._seconds_to_remember() is not None):
            return True
        self._stop_preforking()
        if not self._outlives_supervisor:
            self._children.end_all()
        # What is left now was started by the import, or has lost its parent, and was adopted from it.
        Ending(lambda: living(descendants(os.getpid()))).run(between=self._reap)
        return False

    # -- orders

    def _handle(self, message: ToZygote, fds: list[int]) -> ForkRequest | None:
        """Carry out an order. Returns, in a child that was forked for it, what the child is for."""
        if isinstance(message, (Fork, Exec)):
            return self._fork(message, fds)
        if isinstance(message, Begin):
            self._outlives_supervisor, self._letters = message.keep, fds
            self._supervisor.tell(self._load(message))
        elif isinstance(message, Import):
            import_all(message.modules, self._renewal)
            self._drop_worker()  # it was forked before the import; the next one has it
        elif isinstance(message, Keep):
            self._drop(message.name)
            (self._kept[message.name],) = fds
        elif isinstance(message, Drop):
            self._drop(message.name)
        elif isinstance(message, Listen):
            (fd,) = fds
            self._supervisor.listen(socket.socket(fileno=fd))
        elif isinstance(message, Retire):
            self._stop_preforking()
        elif isinstance(message, AckExit):
            self._children.forget(message.pid)
        elif isinstance(message, Ping):
            self._supervisor.tell(Pong(message.number))
        elif isinstance(message, AdoptChild):
            (pidfd,) = fds
            self._children.adopt(message.pid, message.spec, pidfd)
        else:
            self._send_inventory(message)
        return None

    def _load(self, order: Begin) -> Examined | LoadFailed:
        """Import the application here, and have a child check it."""
        try:
            graph, findings = import_application(order, self._renewal)
            trouble = self._examine(graph, findings)
        except FissileError as error:
            return LoadFailed(clipped(str(error)))
        if trouble:
            return LoadFailed(trouble)
        if graph is not None:
            warm(graph)
        self._graph = graph
        return Examined()

    def _examine(self, graph: Graph | None, findings: ImportFindings) -> str:
        """Have a child check the application. Returns why that could not be done, or ""."""
        # Before every fork: what is still in a buffer would be printed by parent and child, each in its own log.
        flush_output()
        try:
            pid = os.fork()
        except OSError as error:
            return f"the system refuses a process: {error}"
        if pid == 0:
            run_examiner(graph, findings, *self._letters)
        # By its number, not by SIGCHLD: nothing else is done before its answer is there.
        _, status = os.waitpid(pid, 0)
        code = os.waitstatus_to_exitcode(status)
        return f"the check of the application ended with exit code {code}: see the log of the zygote" if code else ""

    def _drop(self, name: str) -> None:
        fd = self._kept.pop(name, None)
        if fd is not None:
            os.close(fd)

    def _send_inventory(self, _message: GetInventory) -> None:
        """Tell a new supervisor all that it has to know."""
        for record in self._children:
            if record.ended:
                self._supervisor.tell(ChildExited(record.pid, record.spec, record.status))
            else:
                pidfd = _pidfds(record.pid)
                self._supervisor.tell(ChildRunning(record.pid, record.spec, bool(pidfd)), pidfd)
                _close_all(pidfd)
        for name, fd in self._kept.items():
            self._supervisor.tell(Kept(name), [fd])
        # Last: it says that this was all.
        self._supervisor.tell(Inventory(os.getpid()), self._letters)

    # -- forking

    def _fork(self, order: Fork | Exec, fds: list[int]) -> ForkRequest | None:
        """Fork a replica, or give its order to the child that waits. Returns in the child only."""
        worker = self._prefork
        if worker is not None and isinstance(order, Fork):
            self._prefork = None
            if worker.take(order, fds):
                self._report_fork(worker.pid, order, fds)
                return None
        flush_output()
        try:
            pid = os.fork()
        except OSError as error:
            _close_all(fds)
            self._supervisor.tell(ForkFailed(order.order, str(error)))
            return None
        if pid == 0:
            self._detach()
            return ForkRequest(fds)
        self._report_fork(pid, order, fds)
        return None

    def _fork_worker(self, graph: Graph) -> ForkRequest | None:
        """Fork a child that waits for its order. Returns in the child only, once it has one."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        flush_output()
        try:
            pid = os.fork()
        except OSError:
            ours.close()
            theirs.close()
            self._may_prefork = False  # the machine is full, and who orders a replica hears of it
            return None
        if pid:
            theirs.close()
            self._prefork = PreforkedWorker(pid, ours)
            return None
        # Or it would hold the zygote's end itself, and never see it close.
        ours.close()
        self._detach()
        return wait_for_order(theirs, graph)

    def _report_fork(self, pid: int, order: Fork | Exec, fds: list[int]) -> None:
        # Recorded first: it may end, and be reaped, at any moment.
        self._children.add(pid, order.spec)
        _close_all(fds)
        # Opened while it cannot have been reaped: so the number is still its own, and the pidfd can be no stranger's.
        pidfd = _pidfds(pid)
        self._supervisor.tell(Forked(order.order, pid, bool(pidfd)), pidfd)
        _close_all(pidfd)

    def _detach(self) -> None:
        """In a child: let go of all that is the zygote's own.

        Whatever stayed open would be open to the application: other services' sockets, the letters with all secrets,
        the line to the supervisor. A listening socket would outlive its service in it.
        """
        # First: a signal that comes now must neither be written to the zygote's pipe, nor meet the zygote's handlers.
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        _close_all([self._wake_read, self._wake_write, *self._kept.values(), *self._letters])
        self._supervisor.detach()
        self._children.detach()
        process_secrets.close_to_others(closed=False)  # debuggers of the application may look
        self._drop_worker()  # our copy of its connection: it is to end when the zygote closes its own
        self._renewal.renew()

    def _drop_worker(self) -> None:
        if self._prefork is not None:
            self._prefork.close()
            self._prefork = None

    def _stop_preforking(self) -> None:
        self._may_prefork = False
        self._drop_worker()

    def _reap(self) -> None:
        for pid in self._children.reap():
            if self._prefork is not None and pid == self._prefork.pid:
                self._drop_worker()


def _wake(_number: int, _frame: Any) -> None:
    """Do nothing: without a handler the wake-up descriptor is not written to."""


def _pidfds(pid: int) -> list[int]:
    """Return a process's descriptor as a message takes it; empty where the system has none."""
    pidfd = open_pidfd(pid)
    return [pidfd] if pidfd is not None else []


def _close_all(fds: Iterable[int]) -> None:
    for fd in fds:
        os.close(fd)


def main() -> int:
    """Run the zygote.

    Its arguments are two inherited descriptors: the socket to the supervisor, and the one at which the next supervisor
    comes (-1: none).
    """
    gc.disable()  # while importing it would only make work; replicas turn it on again
    # Before the import: whatever takes hold of stdout or stderr there writes to those of its replica after the fork.
    unfailing_output()
    show_unhandled()
    # Ctrl-C is for the supervisor to act on: it ends the replicas in order, and they need their parent for that.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Before the import too: what it starts, and what replicas leave behind, is to be found below this process.
    process_marks.adopt_orphans()
    process_secrets.close_to_others()
    connection, listener = (int(number) for number in sys.argv[1:3])
    keep_from_programs(*(fd for fd in (connection, listener) if fd >= 0))
    sock = None if listener < 0 else socket.socket(fileno=listener)
    if sock is not None:
        sock.listen()  # from now on, who connects is told that this process listens (SO_PEERCRED, unix(7))
    request = Zygote(socket.socket(fileno=connection), sock).serve()
    if request is not None:
        return child.run(request)
    gc.unfreeze()  # at its end even what is in cycles deletes its temporary files
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""PURE. The API's words: every request and every answer as a struct, for the server and its clients.

A struct here has the name and the fields of what it shows, but is not it: what the supervisor keeps may change
without changing what programs read. `tests/api/test_schema.py` holds the two together. One answer is not here:
GET /release returns a release as it is stored (see `releases.release`).

Units stand in the names (`_seconds`, `_bytes`); times are seconds since 1970. Text that others send has limits, and no
control characters: terminals show it.
"""

from typing import Annotated, Any

import msgspec

WHO_CHARACTERS_MAX = 200
WHY_CHARACTERS_MAX = 2_000
NAME_CHARACTERS_MAX = 200
ENVIRONMENT_CHARACTERS_MAX = 2 * 1024 * 1024
# A number from outside: it fits into the journal, and into every language's integers.
DIGITS_MAX = 18
HISTORY_MAX = 10_000
BODY_BYTES_MAX = 1024 * 1024

Who = Annotated[str, msgspec.Meta(max_length=WHO_CHARACTERS_MAX, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]
# A reason may have lines.
Why = Annotated[str, msgspec.Meta(max_length=WHY_CHARACTERS_MAX, pattern=r"^[^\x00-\x08\x0b-\x1f\x7f-\x9f]*$")]
Named = Annotated[str, msgspec.Meta(max_length=NAME_CHARACTERS_MAX)]
# NAME=VALUE, each ended by a zero byte, in Base64 (RFC 4648): values need not be text. "": none.
Sent = Annotated[str, msgspec.Meta(max_length=ENVIRONMENT_CHARACTERS_MAX)]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
Number = Annotated[int, msgspec.Meta(ge=0, le=10**DIGITS_MAX - 1)]


# -- requests -------------------------------------------------------------------------------------


class Order(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A request that changes something. who, why: for the history."""

    who: Who = "operator"
    why: Why = ""


class DeployOrder(Order, frozen=True, kw_only=True):
    """Deploy the code in the folder.

    topology: None keeps the one that runs. release: deploy this kept release instead; a prefix of its name will do.
    canary: the share of new requests, in (0, 1), that try the release first; None moves all at once. watch_seconds:
    how long to compare it with the old release. sticky: "cookie", or the header that keeps a client in one release.
    breaks: deploy despite breaking contract changes. expect: refuse if another release runs. plan: change nothing,
    only answer what would change. force: replace every service. environment: from now on; "" keeps it. packages:
    accept that other packages are installed than the release was made with.
    """

    topology: Named | None = None
    release: Named = ""
    canary: float | None = None
    watch_seconds: float | None = None
    sticky: Named = ""
    breaks: bool = False
    expect: Named = ""
    plan: bool = False
    force: bool = False
    environment: Sent = ""
    packages: bool = False


class RollbackOrder(Order, frozen=True, kw_only=True):
    """Go back to an earlier release. release: "" is the one before; the other fields are those of a deploy."""

    packages: bool = False
    release: Named = ""
    canary: float | None = None
    watch_seconds: float | None = None


class DecideOrder(Order, frozen=True, kw_only=True):
    """Promote or abort a rollout. rollout: its number; None is the one under way."""

    rollout: Number | None = None


class RestartOrder(Order, frozen=True, kw_only=True):
    """Replace replicas by new ones of the same release. environment, packages: as in a deploy."""

    environment: Sent = ""
    packages: bool = False


class ScaleOrder(Order, frozen=True, kw_only=True):
    """Set the number of replicas: exactly `replicas`, or from `min` to `max` by load, or `auto` as the file says."""

    replicas: Count | None = None
    min: Count | None = None
    max: Count | None = None
    auto: bool = False


class DownOrder(Order, frozen=True, kw_only=True):
    """Stop the application, callers before callees."""


# -- answers: what runs ---------------------------------------------------------------------------


class Health(msgspec.Struct, frozen=True):
    """The supervisor answers. status: always "ok"."""

    status: str = "ok"


class ReplicaStatus(msgspec.Struct, frozen=True):
    """One replica.

    state: starting, ready or draining. lag_seconds, in_flight: from its last heartbeat; None before the first one, and
    for programs, which send none. pid: None until it has a process. age_seconds: since that started; None if unknown.
    stuck: why it counts as stuck, or ""; stuck_kind: the same as a code. listener: what answers at a program's port,
    if it may not be the program itself.
    """

    slot: int
    serial: int
    pid: int | None
    state: str
    build: str
    revision: int
    lag_seconds: float | None = None
    in_flight: float | None = None
    memory_bytes: int | None = None
    stuck: str = ""
    stuck_kind: str = ""
    listener: str = ""
    age_seconds: float | None = None


class Scale(msgspec.Struct, frozen=True):
    """The number of replicas wanted now, and its bounds. zero_by: who scaled the service to zero, or ""."""

    wanted: int
    min: int
    max: int
    zero_by: str = ""


class WireDifference(msgspec.Struct, frozen=True):
    """How a call within a process would differ across a wire. method: "Component.method"."""

    method: str
    what: str


class ServiceStatus(msgspec.Struct, frozen=True):
    """One service.

    topology: the grouping that it belongs to. limits: what each replica may use, and `enforced_by`. restarts: how many
    replicas were replaced because they died. trouble: the last death, while it matters; trouble_kind: the same as a
    code; last_lines: what that process had printed, if it never became ready. waits: services that must be ready
    first. isolation: none, confined or user; walls: those in place; walls_missing: those that this machine cannot
    raise, and why.
    """

    name: str
    topology: str
    components: tuple[str, ...]
    scale: Scale
    limits: dict[str, str | int | float | list[str] | None]
    replicas: tuple[ReplicaStatus, ...]
    restarts: int
    trouble: str = ""
    trouble_kind: str = ""
    last_lines: tuple[str, ...] = ()
    wire_differences: tuple[WireDifference, ...] = ()
    waits: tuple[str, ...] = ()
    isolation: str = "none"
    walls: tuple[str, ...] = ()
    walls_missing: dict[str, str] = {}


class SupervisorProcess(msgspec.Struct, frozen=True):
    """The supervisor. zygote: the pid of its zygote, or None. trouble: what is wrong with a zygote, or ""."""

    pid: int
    zygote: int | None
    trouble: str = ""


class RolloutStatus(msgspec.Struct, frozen=True):
    """A rollout under way.

    share: of new requests that the later release gets. waits: what it waits for, or ""; waits_kind: the same as a code.
    """

    number: int
    earlier: str
    later: str
    topology: str
    stage: str
    share: float
    reason: str
    waits: str = ""
    waits_kind: str = ""


class RestartStatus(msgspec.Struct, frozen=True):
    """A restart that is not over. service: "" for all. waiting: another one is under way before it."""

    service: str
    who: str
    waiting: bool


class SupervisorStatus(msgspec.Struct, frozen=True):
    """What runs now.

    release: the one that most requests go to. journal: what is wrong with the journal, or "". preparing: what is done
    for a release before its rollout begins, such as "importing shop:app", or "". restarts: in order; the first is
    under way.
    """

    supervisor: SupervisorProcess
    application: str
    topology: str
    release: str
    services: tuple[ServiceStatus, ...]
    journal: str = ""
    rollout: RolloutStatus | None = None
    preparing: str = ""
    restarts: tuple[RestartStatus, ...] = ()


class Entry(msgspec.Struct, frozen=True):
    """One line of the history. kind: change or observation. what: its type, such as ReplicaReady. id: increasing."""

    kind: str
    who: str
    what: str
    service: str = ""
    reason: str = ""
    data: dict[str, Any] = {}
    at: float = 0.0
    id: int = 0


# -- answers: releases ----------------------------------------------------------------------------


class ReleaseInfo(msgspec.Struct, frozen=True):
    """One kept release.

    made, deployed: when it was first and last started. state: live, or kept for a rollback. builds: by service. lost:
    packages that are no longer installed as they were when it was made.
    """

    name: str
    made: float
    topology: str
    state: str
    builds: dict[str, str]
    deployed: float
    lost: tuple[str, ...] = ()


class Called(msgspec.Struct, frozen=True):
    """Calls of one method over HTTP/JSON from outside. since: when watching began, None if no running release has it.

    last: when it was last called; 0.0 is never, as far as is known.
    """

    since: float | None
    last: float = 0.0


class Break(msgspec.Struct, frozen=True):
    """A breaking contract change. place: where in the method, as "parameter `id`". remedy: the compatible way."""

    method: str
    place: str
    what: str
    remedy: str


class ContractBreak(msgspec.Struct, frozen=True):
    """A break and the components and programs that call the method.

    reasons: how it reaches a caller; none if it cannot, and `note` says how that is known.
    """

    callers: tuple[str, ...]
    found: Break
    reasons: tuple[str, ...] = ()
    note: str = ""


class ServiceChange(msgspec.Struct, frozen=True):
    """What a deploy does to one service. what: new, changed or gone. reasons: the parts that differ."""

    service: str
    what: str
    reasons: tuple[str, ...] = ()


class Difference(msgspec.Struct, frozen=True):
    """How a later release differs. unchanged: services that are left alone."""

    changes: tuple[ServiceChange, ...]
    unchanged: tuple[str, ...]
    breaks: tuple[ContractBreak, ...]

    @property
    def refused(self) -> tuple[ContractBreak, ...]:
        """The breaks that reach a caller."""
        return tuple(one for one in self.breaks if one.reasons)


class Deploy(msgspec.Struct, frozen=True):
    """What a deploy or rollback does.

    rollout: its number; None if there is nothing to do, or only a plan was asked for. stale: settings files that
    changed since the running code read them. code: the files of services whose code is listed.
    """

    rollout: int | None
    release: str
    earlier: str
    topology: str
    difference: Difference
    warnings: tuple[str, ...] = ()
    stale: tuple[str, ...] = ()
    code: tuple[str, ...] = ()


class Outcome(msgspec.Struct, frozen=True):
    """How a rollout stands. over: it has ended. done: every request goes to the later release.

    undecided: why a person has to decide, or "". last_lines: what a process of `service` had printed, if that did not
    start.
    """

    number: int
    over: bool
    done: bool
    reason: str
    undecided: str = ""
    service: str = ""
    last_lines: tuple[str, ...] = ()


# -- answers: services ----------------------------------------------------------------------------


class Restarted(msgspec.Struct, frozen=True):
    """What a restart did.

    replicas: how many it replaced; services: by service, in order. read: settings files that were read again.
    environment: the one that they have, in words. asleep: services scaled to zero. others: services of the same
    release that still have what was read earlier.
    """

    replicas: int
    services: dict[str, int]
    read: tuple[str, ...] = ()
    environment: str = ""
    asleep: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


class Done(msgspec.Struct, frozen=True):
    """The service is being scaled. replicas: how many are wanted now."""

    replicas: int


class Problem(msgspec.Struct, frozen=True):
    """An error (RFC 9457) and its remedy. service, last_lines: the process that did not start, and what it printed."""

    title: str
    detail: str
    status: int
    remedy: str = ""
    service: str = ""
    last_lines: tuple[str, ...] = ()

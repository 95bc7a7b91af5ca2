"""Which frame may arrive when: the states of a connection and the one door between them.

A connection has two roles. The caller's side connects, says hello and sends requests; the callee's
side answers. What is not in these tables is a protocol error, which closes that connection alone.
"""

from enum import Enum

from fissile.wire.frames import Kind


class ProtocolError(Exception):
    """The peer broke the protocol: its connection is closed, no other is touched."""


class Role(Enum):
    """Which side of a connection this is."""

    CALLER = "caller"
    CALLEE = "callee"


class State(Enum):
    """Where a connection is in its life. One-way: a state never comes back."""

    HANDSHAKE = "handshake"
    GREETED = "greeted"
    OPEN = "open"
    DRAINING = "draining"
    CLOSED = "closed"


class Step(Enum):
    """What moves a connection on."""

    GREET = "greet"
    ACCEPT = "accept"
    REFUSE = "refuse"
    GOAWAY = "goaway"
    CLOSE = "close"


# A callee is greeted by a hello and answers it; a caller waits in the handshake for that answer.
TRANSITIONS: dict[tuple[State, Step], State] = {
    (State.HANDSHAKE, Step.GREET): State.GREETED,
    (State.HANDSHAKE, Step.ACCEPT): State.OPEN,
    (State.HANDSHAKE, Step.CLOSE): State.CLOSED,
    (State.HANDSHAKE, Step.GOAWAY): State.CLOSED,
    (State.GREETED, Step.ACCEPT): State.OPEN,
    (State.GREETED, Step.REFUSE): State.CLOSED,
    (State.GREETED, Step.CLOSE): State.CLOSED,
    (State.OPEN, Step.GOAWAY): State.DRAINING,
    (State.OPEN, Step.CLOSE): State.CLOSED,
    (State.DRAINING, Step.GOAWAY): State.DRAINING,
    (State.DRAINING, Step.CLOSE): State.CLOSED,
    (State.CLOSED, Step.CLOSE): State.CLOSED,
}

_CALLER_OPEN = frozenset({Kind.RESPONSE, Kind.ERROR, Kind.ITEM, Kind.END, Kind.PING, Kind.PONG, Kind.GOAWAY})
_CALLEE_OPEN = frozenset({Kind.REQUEST, Kind.CANCEL, Kind.CREDIT, Kind.PING, Kind.PONG, Kind.GOAWAY})

# A draining callee still receives requests that were on their way when it said so.
RECEIVABLE: dict[tuple[Role, State], frozenset[Kind]] = {
    (Role.CALLER, State.HANDSHAKE): frozenset({Kind.WELCOME, Kind.GOAWAY}),
    (Role.CALLER, State.GREETED): frozenset(),
    (Role.CALLER, State.OPEN): _CALLER_OPEN,
    (Role.CALLER, State.DRAINING): _CALLER_OPEN,
    (Role.CALLER, State.CLOSED): frozenset(),
    (Role.CALLEE, State.HANDSHAKE): frozenset({Kind.HELLO}),
    (Role.CALLEE, State.GREETED): frozenset(),
    (Role.CALLEE, State.OPEN): _CALLEE_OPEN,
    (Role.CALLEE, State.DRAINING): _CALLEE_OPEN,
    (Role.CALLEE, State.CLOSED): frozenset(),
}


def advance(state: State, step: Step) -> State:
    """The next state. Raises ProtocolError where the step is not allowed."""
    following = TRANSITIONS.get((state, step))
    if following is None:
        raise ProtocolError(f"{step.value} is not allowed in state {state.value}")
    return following

"""How rollouts ended."""

import msgspec


class Outcome(msgspec.Struct, frozen=True):
    """How a rollout ended, or that it goes on. done: whether all requests are with the later release.

    undecided: why a person has to decide whether it goes on; "": nobody has to. last_lines: what a process of `service`
    had printed that did not come up, where that was why.
    """

    number: int
    over: bool
    done: bool
    reason: str
    undecided: str = ""
    service: str = ""
    last_lines: tuple[str, ...] = ()

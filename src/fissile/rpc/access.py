"""PURE. Who may call what: a token proves the service, a declared reference gives the permission.

A callee knows only the SHA-256 of its callers' tokens, so that a service that is broken into cannot
pose as another.
"""

import hashlib
import hmac
from collections.abc import Mapping

import msgspec

# Of a name that a peer says of itself, for a log.
NAME_CHARACTERS_MAX = 80


class Access(msgspec.Struct, frozen=True):
    """What a callee knows of its possible callers.

    peers: SHA-256 (hex) of a service's token → service. members: components by service.
    references: caller → components to which it declares a reference. understood: a method's fingerprint → other
    fingerprints with which callers of another live release may call it: what they say has the same meaning there.
    """

    peers: Mapping[str, str]
    members: Mapping[str, tuple[str, ...]]
    references: Mapping[str, frozenset[str]]
    understood: Mapping[str, frozenset[str]] = {}

    def refusal(self, token: str, service: str, callers: tuple[str, ...]) -> str:
        """Why a hello is refused, or "" if it is what it says."""
        proven = self.peers.get(token_digest(token))
        if proven is None:
            return "the token is not known: it belongs to another application, or to an earlier start of it"
        if not hmac.compare_digest(proven.encode(), service.encode()):
            return f"the token proves service {proven!r}, not {service[:NAME_CHARACTERS_MAX]!r}"
        strangers = [caller for caller in callers if caller not in self.members.get(service, ())]
        if strangers:
            return f"{strangers[0][:NAME_CHARACTERS_MAX]!r} is not in service {service!r}"
        if len(set(callers)) < len(callers):
            return "it names one of its components twice"
        return ""

    def allows(self, caller: str, target: str) -> bool:
        """Whether the caller declares a reference to the target."""
        return target in self.references.get(caller, ())

    def understands(self, own: str, theirs: str) -> bool:
        """Whether a caller that was built with a fingerprint of a method can call it, as it is here."""
        return own == theirs or theirs in self.understood.get(own, ())


class GatewayAccess:
    """Which bearer tokens may call over HTTP/JSON.

    own: SHA-256 (hex) of the application's token, which people and programs outside have. peers: those of
    services of the application.
    """

    def __init__(self, own: str) -> None:
        self._own = own
        self.peers: tuple[str, ...] = ()

    def allows(self, token: str) -> bool:
        """Whether a token may call."""
        digest = token_digest(token)
        return any(hmac.compare_digest(digest, one) for one in (self._own, *self.peers))

    def is_outside(self, token: str) -> bool:
        """Whether whoever has this token is no service of the application."""
        return hmac.compare_digest(token_digest(token), self._own)


def token_digest(token: str) -> str:
    """How a token is known to those who check it."""
    return hashlib.sha256(token.encode()).hexdigest()

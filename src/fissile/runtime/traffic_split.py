"""Which release a new request gets: by its headers, by the shares that the routes say, and by chance.

A pure rule, so that the door of a replica and the visitors of a simulated world draw by the same.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping

RELEASE_HEADER = b"fissile-release"
COOKIE = "fissile-release"
STICKY_COOKIE = "cookie"
DIGEST_BITS = 32

Headers = Iterable[tuple[bytes, bytes]]


class TrafficSplitter:
    """Of one door. release: what all requests get, until there is more than one. chance: numbers in [0, 1)."""

    def __init__(self, release: str, chance: Callable[[], float]) -> None:
        self.release = release
        self._chance = chance
        self._shares: dict[str, float] = {release: 1.0}
        self._sticky = ""
        self._rollout = 0
        self._shared = False

    def divide(self, shares: Mapping[str, float], release: str, sticky: str, rollout: int) -> None:
        """Give new requests their releases by these shares.

        release: what all get where there are none. sticky: the header by which a client stays in its release, or
        "cookie". rollout: its number, for which a cookie holds.
        """
        self._shares = dict(shares) or {release: 1.0}
        self.release = max(self._shares, key=lambda name: self._shares[name])
        self._sticky = sticky
        self._rollout = rollout
        self._shared = sum(share > 0.0 for share in self._shares.values()) > 1

    def choose(self, headers: Headers, *, passed_on: bool = False) -> tuple[str, bytes]:
        """The release of a new request, and a cookie to set (b"": none).

        Nobody chooses a release that gets no new requests: it still migrates, or it goes. A cookie is set only while
        several get some, and holds for that rollout: who came before it, or in one that was given up, is drawn anew.
        passed_on: whoever asks may be in the middle of a request of such a release, and passes it on.
        """
        asked = given = b""
        sticky = self._sticky.encode()
        for name, value in headers:
            if name == RELEASE_HEADER:
                asked = value
            elif sticky and (name == sticky or (name == b"cookie" and self._sticky == STICKY_COOKIE)):
                given = value
        release = asked.decode("latin-1")
        if release in self._shares if passed_on else self._gets(release):
            return release, b""
        if not self._shared:
            return self.release, b""
        if self._sticky == STICKY_COOKIE:
            rollout, _, release = _cookie(given.decode("latin-1")).partition(".")
            if rollout == str(self._rollout) and self._gets(release):
                return release, b""
            release = self._drawn(self._chance())
            return release, f"{COOKIE}={self._rollout}.{release}; Path=/; HttpOnly; SameSite=Lax".encode()
        if sticky and given:
            digest = hashlib.sha256(given).digest()[: DIGEST_BITS // 8]
            return self._drawn(int.from_bytes(digest) / 2**DIGEST_BITS), b""
        return self._drawn(self._chance()), b""

    def _gets(self, release: str) -> bool:
        """Whether new requests get this release."""
        return self._shares.get(release, 0.0) > 0.0

    def _drawn(self, number: float) -> str:
        """The release that a number in [0, 1) falls to; the smallest share first, so that it keeps whom it has."""
        for release in sorted(self._shares, key=lambda name: self._shares[name]):
            number -= self._shares[release]
            if number < 0:
                return release
        return self.release


def _cookie(header: str) -> str:
    for part in header.split(";"):
        name, _, value = part.strip().partition("=")
        if name == COOKIE:
            return value
    return ""

"""The digest by which contents are compared everywhere in a release."""

import hashlib


def digest(data: bytes | str) -> str:
    """A short digest of some content."""
    return hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()[:16]

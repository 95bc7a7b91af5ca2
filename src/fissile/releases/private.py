"""Files and folders that are their owner's alone, and where a copy of the code lies in the state folder."""

import os

PRIVATE_FILE, PRIVATE_FOLDER = 0o600, 0o700
CODE = "code"


def private(path: str, flags: int) -> int:
    """Open a file for `open` that, where it is made, is its owner's alone."""
    return os.open(path, flags, PRIVATE_FILE)

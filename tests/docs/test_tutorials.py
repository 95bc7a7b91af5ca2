"""Every command of the tutorials is run, in order, and prints what they say. Numbers may be others.

Where a tutorial tells to keep shopping "in a browser at ADDRESS", a real browser does, for as long as the commands run.
"""

import re
import shutil
import subprocess
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "system"))

from pages import DOCS, ROOT, play, with_free_ports
from shopper import CHROMIUM, shopping


def browsing(before: str) -> AbstractContextManager[None]:
    """What goes on beside a block of commands."""
    address = re.search(r"in a browser at (http://localhost:\d+)", before)
    if address is None or CHROMIUM is None:
        return nullcontext()
    return shopping(address[1])


@pytest.mark.timeout(300)
@pytest.mark.parametrize("document", sorted((DOCS / "tutorial").glob("*.md")), ids=lambda file: file.stem)
def test_the_tutorial_is_true(document: Path, tmp_path: Path):
    if shutil.which("curl") is None:
        pytest.skip("there is no curl: apt-get install curl")
    (tmp_path / "fissile").symlink_to(ROOT)  # a checkout
    try:
        count = play(with_free_ports(document.read_text()), tmp_path, browsing)
    finally:
        for folder in (tmp_path, tmp_path / "shop"):
            down = [Path(sys.executable).with_name("fissile"), "down", folder]
            subprocess.run(down, capture_output=True, check=False)
    assert count > 10

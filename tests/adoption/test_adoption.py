"""Applications with the shapes that teams bring: whatever is edited, what answers is what was deployed."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from driver import driven, tour
from table import ALL

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at processes in /proc")


def missing(needs: "tuple[str, ...] | list[str]") -> list[str]:
    """The programs that are not on this machine."""
    return [one for one in needs if not list(Path("/").glob(one.lstrip("/")))]


@pytest.mark.timeout(400)  # half a minute, where nobody else needs the machine
@pytest.mark.parametrize("name", ALL)
def test_what_answers_is_what_was_deployed(name: str, place: Path) -> None:
    app = ALL[name]
    if absent := missing(list(app.needs)):
        pytest.skip(f"there is no {absent[0]}")
    with driven(app, place) as made:
        tour(made)

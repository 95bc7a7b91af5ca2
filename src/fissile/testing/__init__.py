"""Public. One test, every topology: runners, a memory network, and a pytest plugin.

Start reading at `worlds` (an application in each kind of runner), then `plugin` (the marker).
"""

from fissile.testing.memory import MemoryNetwork
from fissile.testing.worlds import RUNNERS, World, open_world

__all__ = ["RUNNERS", "MemoryNetwork", "World", "open_world"]

"""What docs/reference/isolation.md says of a service that is not confined: no wall, and nothing pretends to be one."""

import os
from pathlib import Path

from broken import broken_into, sample


async def test_it_is_no_wall(tmp_path: Path):
    async with broken_into(sample(tmp_path, "")) as broken:
        (others,) = broken.app.pids("pages")
        assert await broken("refused(os.chmod, ROOT / 'beside/file', 0o600)") == "None"
        assert await broken("refused(Path(ROOT / 'note').write_text, 'x')") == "1"
        assert await broken(f"refused(os.kill, {others}, 0)") == "None"
        found = broken.status()
        assert (found.isolation, found.walls, found.walls_missing) == ("none", (), {})
        # Nobody but the owner may look in, all the same.
        state = broken.root / ".fissile"
        assert not [
            path for path in (state, *state.rglob("*")) if not path.is_symlink() and path.stat().st_mode & 0o077
        ]
        assert os.getuid() == state.stat().st_uid

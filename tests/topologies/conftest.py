"""The shop in every runner: its package on the path, its data in a folder of the test's own."""

import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "examples" / "shop"))
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def picture_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures are the same in every test: draw each once."""
    return tmp_path_factory.mktemp("pictures")


@pytest.fixture
def world_config(tmp_path: Path, picture_folder: Path) -> dict[str, dict[str, Any]]:
    """Files of the test's own, a hash that costs little, and recovery that does not keep a test waiting."""
    databases = {
        name: {"database": f"sqlite:///{tmp_path}/{name.lower()}.db"}
        for name in ("Catalog", "Auth", "Cart", "Orders", "Payments")
    }
    databases["Auth"] |= {"hash_time_cost": 1, "hash_memory_kib": 64}
    databases["Orders"] |= {"settle_after_seconds": 3600}
    return {**databases, "Images": {"folder": str(picture_folder)}}

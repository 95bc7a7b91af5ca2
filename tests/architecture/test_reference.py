"""The reference names every setting, every field and every kind of entry, and none that is not there."""

import re
from pathlib import Path
from typing import Any, get_args

import msgspec

from fissile.api.schema import ReplicaStatus, RolloutStatus, ServiceStatus, SupervisorStatus
from fissile.api.table import OPERATIONS
from fissile.machine.limits import Limits
from fissile.orchestrator.acts import RolloutAct, SetAct
from fissile.settings.load import load
from fissile.settings.schema import (
    CallSettings,
    LimitSettings,
    MachineSettings,
    ReleaseSettings,
    ScaleSettings,
    ServiceSettings,
)

ROOT = Path(__file__).parents[2]
SETTINGS = (ROOT / "docs" / "reference" / "fissile-toml.md").read_text()
API = (ROOT / "docs" / "reference" / "api.md").read_text()


def section(text: str, title: str) -> str:
    return text.split(f"\n## {title}\n")[1].split("\n## ")[0]


def keys(text: str) -> dict[str, str]:
    """The first column of its tables, and the second."""
    rows = re.findall(r"^\| (`.*?) \| (.*?) \|", text, re.MULTILINE)
    return {key: second for names, second in rows for key in re.findall(r"`(\w+)`", names)}


def test_every_setting_is_told_with_its_default():
    found = keys(section(SETTINGS, "[services.NAME]"))
    assert set(found) == set(ServiceSettings.__struct_fields__)
    assert set(keys(section(SETTINGS, "limits"))) == set(LimitSettings.__struct_fields__)
    scale = keys(section(SETTINGS, "scale"))
    assert set(scale) == set(ScaleSettings.__struct_fields__)
    for kind, told in ((ServiceSettings, found), (ScaleSettings, scale)):
        fields = {field.name: field.default for field in msgspec.structs.fields(kind)}
        for key, text in told.items():
            if re.fullmatch(r"[\d.]+", text):
                assert float(text) == fields[key], key


def test_the_example_is_a_valid_file(tmp_path: Path):
    (example,) = re.findall(r"```toml\n(.*?)```", SETTINGS, re.DOTALL)
    (tmp_path / "fissile.toml").write_text(example)
    settings = load(tmp_path, "test")
    assert settings.service("back").replicas == 1
    tables = ((CallSettings, "calls"), (MachineSettings, "machine"), (ReleaseSettings, "releases"))
    for kind, table in tables:
        told = set(re.findall(r"^(\w+) =", example.split(f"[{table}]")[1].split("\n[")[0], re.MULTILINE))
        assert told == set(kind.__struct_fields__)


def test_every_operation_and_field_is_told():
    for operation in OPERATIONS.values():
        assert f"`{operation.verb} {operation.path}" in API
    told = set(re.findall(r"[`.\]](\w+)`", section(API, "Status")))
    kinds: tuple[type[Any], ...] = (SupervisorStatus, ServiceStatus, ReplicaStatus, RolloutStatus)
    fields = {field for kind in kinds for field in kind.__struct_fields__}
    fields -= {"services", "replicas", "supervisor", "rollout"}
    assert fields <= told, fields - told
    assert {*Limits().shown(), "concurrency", "enforced_by"} <= told


def test_every_kind_of_entry_is_told():
    told = set(re.findall(r"`([A-Z]\w+)`", section(API, "History")))
    source = (ROOT / "src" / "fissile" / "supervisor" / "supervisor.py").read_text()
    noted = set(re.findall(r'(?:_note|_record)\(\s*"(\w+)"', source))
    noted |= set(re.findall(r'"(Replica[A-Z]\w+|Application\w+|Orphans\w+)"', source))
    noted |= {kind.__name__ for kind in (*get_args(SetAct), *get_args(RolloutAct))}
    assert noted <= told, noted - told

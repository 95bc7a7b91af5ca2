"""Whoever alters what is kept or sent raises the number of its format: a fingerprint of each is noted beside this.

`python tests/architecture/test_formats.py` notes the fingerprints of formats whose numbers were raised.
"""

import hashlib
import json
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest

import fissile
from fissile import formats
from fissile.formats import KEPT, Format
from fissile.journal import rows
from fissile.journal.sums import Tally
from fissile.machine.zygote import protocol as messages
from fissile.orchestrator.desired import Desired
from fissile.releases.app_data.index import DataPaths
from fissile.releases.callers import Called
from fissile.releases.manifest import Manifest
from fissile.releases.records import ReleaseRecord
from fissile.runtime import control
from fissile.runtime.control import WireDifference
from fissile.supervisor import previous_run
from fissile.supervisor.endpoints import Endpoints
from fissile.supervisor.service import Secrets
from fissile.wire import frames

ROOT = Path(__file__).parents[2]
NOTED = Path(__file__).with_name("formats.json")
REFERENCE = ROOT / "docs/reference/formats.md"

# What each format consists of: types, and whatever else says how it is written.
LETTERS = (messages.Load, messages.Loaded, messages.LoadFailed, messages.Fork, messages.Exec)
FRAMES = (frames.Hello, frames.Welcome, frames.PROTOCOL_VERSION, frames.HEADER.format, frames.REQUEST.format)
PARTS: dict[str, tuple[Any, ...]] = {
    "PROCESSES": (messages.ToZygote, messages.FromZygote, *LETTERS, control.ReplicaReport, control.Command, *FRAMES),
    "ENDPOINTS": (Endpoints,),
    "RELEASE": (ReleaseRecord,),
    "COPY": (Manifest,),
    "WRITTEN": (DataPaths,),
    "JOURNAL": (rows.SCHEMA, rows.Entry),
    "DESIRED": (Desired,),
    "SECRETS": (Secrets,),
    "DOWN": (previous_run.FIRST_START, previous_run.STOPPED),
    "MIGRATED": (list[str],),
    "PORT": (tuple[int | None, int],),
    "DIFFERENCES": (dict[str, list[WireDifference]],),
    "CALLERS": (dict[str, Called],),
    "TALLY": (Tally,),
}
FORMATS = {name: one for name, one in vars(formats).items() if isinstance(one, Format)}


def shape(found: Any, seen: frozenset[type] = frozenset()) -> Any:
    """How values of a type are written, as plain data."""
    if isinstance(found, msgspec.inspect.StructType):
        if found.cls in seen:
            return found.cls.__name__
        seen |= {found.cls}
        fields = [[one.encode_name, shape(one.type, seen), one.required, shape(one.default)] for one in found.fields]
        return [found.cls.__name__, found.tag, found.array_like, fields]
    if isinstance(found, msgspec.Struct):  # a type, or a default
        return [type(found).__name__, *(shape(getattr(found, name), seen) for name in found.__struct_fields__)]
    if isinstance(found, tuple):
        return [shape(one, seen) for one in found]  # pyright: ignore[reportUnknownVariableType]
    if isinstance(found, type):
        return [found.__name__, *(list(found) if hasattr(found, "__members__") else [])]  # pyright: ignore
    return found if isinstance(found, (int, str, float, bool)) or found is None else repr(found)


def fingerprint(*parts: Any) -> str:
    shapes = [part if isinstance(part, (str, bytes, int)) else shape(msgspec.inspect.type_info(part)) for part in parts]
    return hashlib.sha256(json.dumps(shapes, default=repr).encode()).hexdigest()[:16]


def noted() -> dict[str, list[Any]]:
    return json.loads(NOTED.read_text()) if NOTED.exists() else {}


def complaint(name: str, before: list[Any] | None) -> str:
    """What is to be done about a format; "" for nothing."""
    number, found = FORMATS[name].number, fingerprint(*PARTS[name])
    if before == [number, found]:
        return ""
    if before is not None and before[0] == number:
        return f"{name} is written in another way than format {number} was: raise its number in formats.py"
    if before is not None and before[0] > number:
        return f"{name} had number {before[0]} already"
    return f"note the fingerprint of {name} {number}: python {Path(__file__).relative_to(ROOT)}"


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_what_is_written_in_another_way_has_another_number(name: str):
    assert not complaint(name, noted().get(name))


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_it_is_noticed(name: str):
    number, found = FORMATS[name].number, fingerprint(*PARTS[name])
    assert "raise its number" in complaint(name, [number, "another"])
    assert "had number" in complaint(name, [number + 1, found])
    assert "note the fingerprint" in complaint(name, [number - 1, found])


class _Before(msgspec.Struct):
    replicas: int = 1


class _Deep(msgspec.Struct):
    parts: tuple[dict[str, _Before], ...] = ()


def test_a_fingerprint_is_another_whatever_alters():
    def struct(*fields: Any, **options: Any) -> type:
        return msgspec.defstruct("_Before", fields, **options)

    kinds = [
        struct(("replicas", int, 1)),
        struct(("replicas", int, 2)),
        struct(("replicas", int)),
        struct(("replicas", float, 1)),
        struct(("copies", int, 1)),
        struct(("replicas", int, 1), ("more", str, "")),
        struct(("replicas", int, 1), tag="before"),
        struct(("replicas", int, 1), array_like=True),
        _Deep,
    ]
    assert len({fingerprint(one) for one in kinds}) == len(kinds)
    deep = msgspec.defstruct("_Deep", [("parts", tuple[dict[str, kinds[1]], ...], ())])  # type: ignore[valid-type]
    assert fingerprint(deep) != fingerprint(_Deep)
    assert fingerprint(kinds[0]) == fingerprint(_Before)


def test_every_format_is_named_once_and_read_where_it_is_written():
    assert FORMATS.keys() == PARTS.keys()
    assert len({one.name for one in FORMATS.values()}) == len(FORMATS)
    assert all(one.oldest <= one.number for one in FORMATS.values())
    assert set(KEPT.values()) == {one for name, one in FORMATS.items() if name not in noted_elsewhere()}


def noted_elsewhere() -> set[str]:
    """Formats of what the journal does not keep as values."""
    return {"PROCESSES", "ENDPOINTS", "RELEASE", "COPY", "WRITTEN", "JOURNAL"}


def test_the_reference_names_the_numbers():
    told = dict(re.findall(r"^\| `(\w+)` \| (\d+) \|", REFERENCE.read_text(), re.MULTILINE))
    assert told == {name: str(one.number) for name, one in FORMATS.items()}


def test_the_version_is_that_of_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["dynamic"] == ["version"]
    assert project["tool"]["hatch"]["version"]["path"] == "src/fissile/version.py"
    assert fissile.__version__ == formats.FISSILE


def test_words():
    one = Format("desired", 4, 3)
    assert [number for number in range(7) if one.reads(number)] == [3, 4]
    assert one.strange(5, "9.1").startswith("a newer Fissile (9.1), in format 5 of desired; this one, ")
    assert one.strange(2, "").startswith("an older Fissile, in format 2 of desired")
    assert one.strange(2, "").endswith("reads 3 to 4")


if __name__ == "__main__":
    before = noted()
    wrong = [told for name in sorted(FORMATS) if "note" not in (told := complaint(name, before.get(name))) and told]
    if wrong:
        sys.exit("\n".join(wrong))
    now = {name: [FORMATS[name].number, fingerprint(*PARTS[name])] for name in sorted(FORMATS)}
    NOTED.write_text(json.dumps(now, indent=2) + "\n")

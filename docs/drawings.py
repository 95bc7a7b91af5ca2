"""The drawings of docs/explanation, in DOT. What the code has tables of, or decides, is asked of the code itself.

`conf.py` writes them anew for each build; Graphviz draws them.
"""

import itertools
import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from fissile.machine.walls import Machine, standing
from fissile.machine.zygote import protocol as messages
from fissile.names import ServiceName, SetName
from fissile.orchestrator.acts import (
    AbortRollout,
    AdvanceRollout,
    Change,
    EndRollout,
    PromoteRollout,
)
from fissile.orchestrator.analysis import Analysis, Verdict
from fissile.orchestrator.change import ChangeRefused, apply
from fissile.orchestrator.desired import Desired, DesiredSet, LiveRelease, Rollout, Stage
from fissile.orchestrator.replica import TRANSITIONS
from fissile.orchestrator.rollout import RolloutProgress, SetProgress, next_step

LOOK = """
  graph [bgcolor="transparent", fontname="sans-serif", rankdir="{direction}", nodesep=0.4, ranksep={gap}, pad=0.2];
  node [fontname="sans-serif", fontsize=12, shape=box, style="rounded,filled", fillcolor="#eef3fb",
    color="#4a6fa5", fontcolor="#1b2a41", margin="0.15,0.08"];
  edge [fontname="sans-serif", fontsize=10, color="#7a8699", fontcolor="#5a6473"];
"""
LABEL_COLUMNS = 30


def all_of_them() -> dict[str, str]:
    """The drawings by the names of their files."""
    return {"call": call(), "rollout": rollout(), "replica": replica(), "zygote": zygote(), "walls": walls()}


def digraph(lines: Iterable[str], *, direction: str = "TB", gap: float = 0.5) -> str:
    """A drawing of these statements."""
    look = LOOK.format(direction=direction, gap=gap)
    return "digraph {" + look + "".join(f"  {line}\n" for line in lines) + "}\n"


def wrapped(text: str) -> str:
    """A label in lines that are not too long."""
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + len(word) >= LABEL_COLUMNS:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "\\n".join(lines)


# -- how a call travels -----------------------------------------------------------------------------

CALLER = [
    ("reference", "self.catalog.title(7)", ""),
    ("stub", "stub\\ndeadline, breaker, retries", "rpc/stub.py"),
    ("channel", "channel\\nchooses the less busy of two replicas", "rpc/channel.py"),
    ("codec", "connection\\nbytes in, events out", "wire/connection.py"),
]
CALLEE = [
    ("parser", "connection\\nbytes in, events out", "wire/connection.py"),
    ("server", "server\\npermission, room, deadline", "rpc/server.py"),
    ("method", "Catalog.title(7)", ""),
]


def call() -> str:
    """The two ways of a call: within one process, and between two."""
    lines: list[str] = []
    for name, title, parts in (("caller", "the caller's process", CALLER), ("callee", "the callee's process", CALLEE)):
        lines.append(f'subgraph cluster_{name} {{ label="{title}"; fontsize=11; color="#c5cedb"; style=rounded;')
        for node, text, file in parts:
            lines.append(f'{node} [label="{text}", tooltip="{file or text}"];')
        lines.append("}")
    order = [name for name, _, _ in (*CALLER, *CALLEE)]
    wire = order.index("codec")
    for at, (one, other) in enumerate(itertools.pairwise(order)):
        lines.append(f'{one} -> {other} [label="{"one frame" if at == wire else ""}"];')
    lines.append('local [label="local reference\\ncopies what is mutable,\\nwatches the deadline"];')
    lines.append('same [label="Catalog.title(7)"];')
    lines.append('reference -> local [label="same process", style=dashed]; local -> same [style=dashed];')
    return digraph(lines, direction="TB", gap=0.35)


# -- rollouts and replicas --------------------------------------------------------------------------

CART, OLD, NEW = ServiceName("cart"), SetName("cart@1"), SetName("cart@2")
WANT = DesiredSet(2, 2, 2)
NONE = DesiredSet(0, 0, 0)
BY_PEOPLE = {PromoteRollout: "fissile promote", AbortRollout: "fissile abort"}


def rollout() -> str:
    """The stages of a rollout, and what leads from one to the next: by asking what is decided in each."""
    found: dict[tuple[str, str], list[str]] = {}
    for stage in Stage:
        for to, why in _steps(stage):
            if to != stage.value and why not in found.setdefault((stage.value, to), []):
                found[stage.value, to].append(why)
    lines = ['begin [label="fissile deploy", shape=plaintext, style=""];', "begin -> migrating; begin -> starting;"]
    lines += ['over [label="the new release\\nhas all requests", fillcolor="#e6f4ea", color="#4a8f5d"];']
    lines += ['undone [label="the old release\\nhas all requests", fillcolor="#fbeaea", color="#a54a4a"];']
    lines += [f'"{stage.value}";' for stage in Stage]
    for (stage, to), reasons in found.items():
        label = "\\n".join(map(wrapped, reasons))
        lines.append(f'"{stage}" -> "{to}" [label="{label}"];')
    return digraph(lines, gap=0.7)


def _steps(stage: Stage) -> Iterator[tuple[str, str]]:
    """Where a rollout goes from a stage, and why."""
    for share, seen in itertools.product((1.0, 0.1), _sights()):
        for desired in (_at(stage, share), _at(stage, share, cleared=True)):
            change = next_step(desired, seen, 1.0).change
            act = change.what if change is not None else None
            if isinstance(act, AdvanceRollout):
                yield act.stage.value, _brief(str(change.why) if change is not None else "")
            elif isinstance(act, EndRollout):
                yield "over" if act.done else "undone", "the other release has ended"
    for act in (PromoteRollout(1.0), AbortRollout(1.0)):
        try:
            after = apply(_at(stage, 0.1), Change("", act, ""))
        except ChangeRefused:
            continue
        if after.rollout is not None:
            yield after.rollout.stage.value, BY_PEOPLE[type(act)]


def _at(stage: Stage, share: float, *, cleared: bool = False) -> Desired:
    """In a stage. cleared: the release that goes has no replicas any more."""
    old = LiveRelease("old", {CART: OLD}, ((CART,),))
    later = LiveRelease("new", {CART: NEW}, ((CART,),))
    under_way = Rollout(1, later, {NEW: WANT}, stage, share, watch_seconds=60.0 if share < 1.0 else 0.0, known_at=0.5)
    desired = Desired({OLD: WANT, NEW: WANT}, old, under_way)
    gone = desired.leaving() if cleared else ()
    return msgspec.structs.replace(desired, sets={name: NONE if name in gone else WANT for name in desired.sets})


def _sights() -> Iterator[RolloutProgress]:
    """What may be seen of the new release's replicas; the quiet cases first."""
    worse, good = Analysis(Verdict.FAILED, "it is worse"), Analysis(Verdict.PASSED, "it is as good")
    up, dead, gone = SetProgress(2, 2), SetProgress(0, 0, 3, "dies again and again"), SetProgress()
    for sets in ({OLD: up, NEW: up}, {OLD: up, NEW: dead}, {OLD: gone, NEW: up}, {OLD: up, NEW: gone}):
        for analysis in (None, good, worse):
            yield RolloutProgress(sets, pinned=False, told=True, migrated=True, analysis=analysis)
    yield RolloutProgress({}, migration_trouble="it failed")


def _brief(why: str) -> str:
    return why.partition(":")[0]


def replica() -> str:
    """The states of a replica: no way leads back."""
    lines = [f"{state.value} -> {to.value};" for state, after in TRANSITIONS.items() for to in sorted(after)]
    return digraph([f"{state.value};" for state in TRANSITIONS] + lines, direction="LR")


# -- the zygote -------------------------------------------------------------------------------------


def zygote() -> str:
    """Who starts whom, and what they say to each other."""
    said = [_tags(messages.ToZygote), _tags(messages.FromZygote)]
    return digraph(
        [
            'supervisor [label="supervisor\\ndecides, and may die"];',
            'zygote [label="zygote\\nhas imported one release; keeps the sockets"];',
            'one [label="replica"]; two [label="replica"]; program [label="program\\n(any language)"];',
            'spare [label="spare replica,\\nhalf born", style="rounded,dashed"];',
            f'supervisor -> zygote [label="{wrapped(", ".join(said[0]))}"];',
            f'zygote -> supervisor [label="{wrapped(", ".join(said[1]))}"];',
            'zygote -> one [label="fork"]; zygote -> two [label="fork"]; zygote -> spare [label="fork ahead"];',
            'zygote -> program [label="exec"];',
            'one -> supervisor [label="reports", style=dashed, constraint=false];',
        ],
        gap=0.9,
    )


def _tags(union: object) -> list[str]:
    """The messages of a union as they are tagged."""
    kinds: tuple[type[msgspec.Struct], ...] = union.__args__  # type: ignore[attr-defined]
    return [str(kind.__struct_config__.tag) for kind in kinds]


# -- walls ------------------------------------------------------------------------------------------


def walls() -> str:
    """Which walls each level has on a kernel that can do all, and by what it is built."""
    machine = Machine(landlock=99, seccomp=True, root=True)
    less = standing(Machine(landlock=0, seccomp=True, root=True), confined=True)
    levels = {
        "none": standing(machine, confined=False),
        "confined": standing(machine, confined=True),
        "user": standing(machine, confined=True, user="mail"),
    }
    lines = []
    for name, one in levels.items():
        shown = "\\l".join(f"• {wall}{' (Landlock)' if wall in less.missing else ''}" for wall in one.walls)
        label = f"{name}\\n\\n{shown or 'a fence, and no walls'}\\l"
        lines.append(f'{name} [shape=box, label="{label}"];')
    lines.append('none -> confined [label="isolate = true"]; confined -> user [label="user = \\"mail\\""];')
    return digraph(lines, direction="LR")


# -- the shop, for the README -----------------------------------------------------------------------


def shop() -> str:
    """The example application as a monolith, and as microservices; by what `fissile graph` says of it."""
    lines: list[str] = []
    for topology, title in (("monolith", "monolith: one process"), ("microservices", "microservices: one each")):
        drawn = _graph(topology)
        lines.append(f'subgraph cluster_{topology} {{ label="{title}"; labeljust=l; fontsize=14; color="#c5cedb";')
        lines.append("style=rounded;")
        for service, members in drawn["services"].items():
            nodes = " ".join(f'{topology}_{name} [label="{name}"];' for name in members)
            lines.append(f'subgraph cluster_{topology}_{service} {{ label=""; {PROCESS} {nodes} }}')
        lines.append("}")
        for name, one in drawn["components"].items():
            lines += [f"{topology}_{name} -> {topology}_{to['target']};" for to in one["references"]]
    return digraph(["bgcolor=white;", *lines], gap=0.45)


PROCESS = 'style="filled,rounded"; fillcolor="#fff7e6"; color="#d9a441"; margin=10;'


def _graph(topology: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "fissile", "-C", str(SHOP), "graph", "--topology", topology, "--json"]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


SHOP = Path(__file__).parents[1] / "examples/shop"

if __name__ == "__main__":
    # The README's picture is committed, for whoever reads it where it stands.
    svg = subprocess.run(["dot", "-Tsvg"], input=shop(), check=True, capture_output=True, text=True).stdout
    (Path(__file__).parent / "shop.svg").write_text(svg)

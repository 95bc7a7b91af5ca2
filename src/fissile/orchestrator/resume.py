"""What an application starts with when nothing of it runs: what ran last, unless a person has stopped it.

After a power cut or a kill of everything, code that was never deployed must not become live, nor a topology or a
replica count that somebody has altered since.
"""

from collections.abc import Collection

import msgspec

from fissile.errors import StartError
from fissile.names import SetName
from fissile.orchestrator.acts import EndRollout
from fissile.orchestrator.desired import Desired, DesiredSet, LiveRelease, Stage
from fissile.orchestrator.rollout import REVISION_HISTORY_MAX, with_current_scale


def interrupted(before: Desired) -> EndRollout | None:
    """The act that ends a rollout whose processes all ended before it was over; None if none was under way."""
    rollout = before.rollout
    return EndRollout(rollout.number, rollout.stage is Stage.PROMOTED) if rollout is not None else None


def release_to_resume(before: Desired, *, stopped: bool) -> str:
    """The release to go on with; "": begin with the code in the folder.

    stopped: whether a person has stopped it, or its first start never was ready.
    """
    return "" if stopped else before.current.name


def check_resumed(application: str, ran: str, asked: str, *, any_topology: bool) -> None:
    """Refuse another topology than the one that ran last. asked: "" if none is. Raises StartError."""
    if asked not in ("", ran) and not any_topology:
        raise StartError(
            f"{application} ran as {ran} last, and nobody has stopped it",
            remedy=f"pass {ran}, or --fresh to start the code in the folder as {asked}",
        )


def only_served(before: Desired, served: Collection[str]) -> Desired:
    """The same without a current release that never served: no rollback goes to it."""
    if before.current.name in served:
        return before
    return msgspec.structs.replace(before, current=LiveRelease())


def restored(before: Desired, live: LiveRelease, specs: dict[SetName, DesiredSet], *, goes_on: bool) -> Desired:
    """What is desired once an application starts to run.

    before: what was when it ran last, with no rollout under way. specs: by the release's own settings; where the
    release goes on, replica counts are as they were.
    """
    if goes_on:
        specs = {name: with_current_scale(want, before.sets.get(name, want)) for name, want in specs.items()}
    history = before.revision_history
    if before.current.name not in ("", live.name):
        history = (*history, before.current.name)
    return Desired(specs, live, revision_history=history[-REVISION_HISTORY_MAX:], rollouts=before.rollouts)

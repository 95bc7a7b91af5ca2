"""What was recorded when reasons were still text."""

from typing import Any

# Of what is observed, these were text when this was recorded.
REASONS = ("reason", "last_trouble", "stuck", "ending", "trouble")


def typed(value: Any) -> Any:
    """What was recorded, with reasons in place of their words."""
    if isinstance(value, list):
        return [typed(one) for one in value]
    if not isinstance(value, dict):
        return value
    known = "slot" in value or "deaths" in value  # of a replica, of what its slot remembers, of what a rollout sees
    return {key: reason(one) if known and key in REASONS else typed(one) for key, one in value.items()}


def reason(text: str) -> dict[str, Any] | None:
    """Of its words."""
    if not text.startswith("cannot start: "):
        return {"kind": "Said", "text": text} if text else None
    return {"kind": "CannotStart", "what": text.removeprefix("cannot start: "), "advice": False}

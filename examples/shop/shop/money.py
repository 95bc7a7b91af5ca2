"""Money is a whole number of cents, so that no sum is ever rounded."""

from typing import NewType

Cents = NewType("Cents", int)


def shown(amount: Cents) -> str:
    """As a customer reads it: "€ 1,234.50"."""
    return f"€ {amount // 100:,}.{amount % 100:02d}"

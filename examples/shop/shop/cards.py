"""Payment cards, and what can be told of one without asking its bank."""

import datetime
import re

import msgspec


class Card(msgspec.Struct, frozen=True):
    """A card as its holder types it. Only `last_four` may ever be stored or logged."""

    number: str
    expiry_month: int
    expiry_year: int
    code: str
    holder: str = ""

    @property
    def last_four(self) -> str:
        return self.number[-4:]

    def __repr__(self) -> str:
        return f"Card(••••{self.last_four})"


class InvalidCard(Exception):
    """A field of the card cannot be right; `reason` says why, to its holder."""

    field: str
    reason: str

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(field, reason)
        self.field = field
        self.reason = reason


def check(card: Card, today: datetime.date) -> None:
    """Raises InvalidCard if no bank could accept it."""
    if not re.fullmatch(r"[0-9]{12,19}", card.number) or not _luhn(card.number):
        raise InvalidCard("number", "This is not a card number: please check the digits.")
    if not 1 <= card.expiry_month <= 12 or not today.year - 50 < card.expiry_year < today.year + 30:
        raise InvalidCard("expiry", "Write the month and year that are on the card, as in 04/31.")
    if (card.expiry_year, card.expiry_month) < (today.year, today.month):
        raise InvalidCard("expiry", "This card has expired.")
    if not re.fullmatch(r"[0-9]{3,4}", card.code):
        raise InvalidCard("code", "The security code has three or four digits.")


def _luhn(number: str) -> bool:
    """The check digit of ISO/IEC 7812-1: every second digit from the right is doubled."""
    total = 0
    for place, digit in enumerate(reversed(number)):
        value = int(digit) << (place % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0

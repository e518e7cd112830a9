"""The limits of the values that every service can store, for the contracts of a system.

Like the limits of an event's time, they are not part of the contracts, because the schema of a
released contract cannot be narrowed. A contract calls the checks whenever an event is created or
decoded.
"""

from eventbus.errors import InvalidEvent

#: The largest values of PostgreSQL's types `integer` and `bigint`.
INTEGER, BIGINT = 2**31 - 1, 2**63 - 1

#: Maximum number of characters of a text that is a key, alone or with another column. An entry of
#: an index has at most 2,704 bytes, and a character up to 4 bytes.
KEY = 300


class BeyondLimits(InvalidEvent, ValueError):
    """A value of an event is beyond its limits. As a `ValueError`, it receives the value's path."""


def check_number(name: str, number: int, least: int, most: int) -> None:
    """Raise `BeyondLimits` unless `least <= number <= most`."""
    if not least <= number <= most:
        limit = f"below {least}" if number < least else f"above {most}"
        raise BeyondLimits(f"{name} is {limit}")


def check_text(name: str, text: str, most: int = KEY) -> None:
    """Raise `BeyondLimits` if a text has more than `most` characters."""
    if len(text) > most:
        raise BeyondLimits(f"{name} has more than {most} characters")


def check_not_empty(name: str, value: object) -> None:
    """Raise `BeyondLimits` if a text or a sequence is empty."""
    if not value:
        raise BeyondLimits(f"{name} is empty")

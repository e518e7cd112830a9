"""The formats of times, ages, numbers and addresses on a page."""

from datetime import UTC, datetime

from flask import Flask

from console.orders.address import masked
from notification_worker.mail.money import amount

#: The text in place of a missing value.
NOTHING = "\N{EN DASH}"

#: Seconds in each unit, the largest first.
_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def install(app: Flask) -> None:
    """Add the functions of this module to the templates' filters."""
    app.jinja_env.filters |= {
        "age": age,
        "amount": amount,
        "count": count,
        "masked": masked,
        "measure": measure,
        "moment": moment,
        "percent": percent,
        "waited": waited,
    }


def age(seconds: float | None) -> str:
    """Return a duration in its two largest units, such as `2 h 5 min`."""
    if seconds is None:
        return NOTHING
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms" if seconds else NOTHING
    left, parts = round(seconds), []
    for size, name in _UNITS:
        if left >= size:
            parts.append(f"{left // size} {name}")
            left %= size
    return " ".join(parts[:2])


def waited(seconds: float | None) -> str:
    """Return the age of waiting work, or `none` if it is 0; an unknown age is a dash."""
    return "none" if seconds == 0 else age(seconds)


def moment(value: datetime | str | None, timespec: str = "seconds") -> str:
    """Return a time in UTC; text that is not a time is returned unchanged."""
    if value is None:
        return NOTHING
    try:
        at = datetime.fromisoformat(value) if isinstance(value, str) else value
        return at.astimezone(UTC).replace(tzinfo=None).isoformat(" ", timespec)
    except (ValueError, OverflowError):
        return str(value)


def count(value: float | None) -> str:
    """Return a number without decimals, with its thousands separated."""
    return NOTHING if value is None else f"{value:,.0f}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def percent(part: float | None) -> str:
    """Return a fraction as a percentage."""
    return NOTHING if part is None else f"{100 * part:.1f} %"


def measure(value: float | None, unit: str) -> str:
    """Return a value of a figure: a rate or a duration."""
    if value is None:
        return NOTHING
    if unit == "s":
        return age(value) if value else "0 ms"
    digits = 2 if 0 < value < 10 else 0
    return f"{value:.{digits}f}{unit}"

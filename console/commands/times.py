"""Ages, times and stream positions as command arguments."""

import re
from datetime import UTC, datetime, timedelta, tzinfo

import click

from eventbus.messaging.stream import Start

_UNITS = {"s": "seconds", "m": "minutes", "min": "minutes", "h": "hours", "d": "days"}

#: The longest accepted age, which no event reaches.
_MAX_AGE = timedelta(days=36_525)

#: The earliest accepted year. The broker stores times as seconds since 1970.
_FIRST_YEAR = 1971

#: The form of an offset, which has 63 bits.
_OFFSET = re.compile(r"[0-9]{1,18}")


class Age(click.ParamType[timedelta]):
    """A duration such as `90s`, `30m`, `12h` or `14d`, of at most 100 years; `min` is also `m`."""

    name = "AGE"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        """Return the duration."""
        if isinstance(value, timedelta):
            return value
        match = re.fullmatch(r"([1-9]\d{0,8})(s|m|min|h|d)", str(value))
        if not match:
            self.fail(f"{value!r} is not an age such as 30m, 12h or 14d", param, ctx)
        age = timedelta(**{_UNITS[match[2]]: int(match[1])})
        if age > _MAX_AGE:
            self.fail(f"{value!r} is more than 100 years", param, ctx)
        return age


class Moment(click.ParamType[datetime]):
    """A time in the past, as an age or in ISO 8601, such as `2026-11-29T03:00`; UTC by default."""

    name = "AGE|TIME"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        """Return the time, with its zone."""
        if isinstance(value, datetime):
            return value
        text = str(value)
        if re.fullmatch(r"\d+[a-z]+", text):
            return datetime.now(UTC) - Age().convert(text, param, ctx)
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            self.fail(
                f"{text!r} is neither an age such as 30m nor a time such as 2026-11-29T03:00",
                param,
                ctx,
            )
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


class StartType(click.ParamType[Start]):
    """`first`, an offset, or a time since 1971. `zone` applies to a time without a zone."""

    name = "first|TIME|OFFSET"

    def __init__(self, zone: tzinfo | None = None) -> None:
        self._zone = zone

    def convert(
        self, value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> Start:
        """Return where to start."""
        if value == "first":
            return "first"
        if _OFFSET.fullmatch(value):
            return int(value)
        moment = self._moment(value)
        if moment is None or moment.tzinfo is None or moment.year < _FIRST_YEAR:
            self.fail(
                f"{value!r} is not `first`, an offset, or a time such as 2026-11-25T08:00Z",
                param,
                ctx,
            )
        return moment

    def _moment(self, value: str) -> datetime | None:
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            return None
        return moment if moment.tzinfo else moment.replace(tzinfo=self._zone)

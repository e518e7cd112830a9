"""Ages as arguments of commands."""

import re
from datetime import timedelta

import click

_UNITS = {"s": "seconds", "m": "minutes", "min": "minutes", "h": "hours", "d": "days"}


class Age(click.ParamType[timedelta]):
    """A duration such as `90s`, `30m`, `12h` or `14d`; `min` is accepted for `m`."""

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
        return timedelta(**{_UNITS[match[2]]: int(match[1])})

"""The dedup window: the time for which a service recognizes a duplicate of an event.

The settings must be the same for all services and for `orderctl`, because one process drops the
duplicates that another process sends.
"""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from math import ceil
from typing import Any

from pydantic import Field, ValidationInfo, field_validator

from eventbus.settings.base import Settings
from eventbus.topology.limits import STREAM_AGE

#: Maximum time for which a second copy of an event may wait because a service, its relay or the
#: broker is down. Neither a queue nor an outbox limits that time. A week covers an outage over a
#: long weekend.
STANDSTILL = timedelta(days=7)

_DAY = timedelta(days=1)


class DedupWindow(Settings):
    """The retention of sent and handled events.

    If a class inherits from this class and from the settings with the retry tiers, this class must
    come first.
    """

    #: Days for which sent events are kept after the broker's confirm. They are kept for two weeks
    #: for timelines, and because they must be sent again if the broker's data is lost.
    outbox_retention_days: int = Field(14, ge=1, le=3650)
    #: Maximum age, in days, of an event that is redriven. If the cause was not fixed within two
    #: weeks, the order must be checked in any case.
    parked_redrive_days: int = Field(14, ge=1, le=3650)
    #: The dedup window: the days for which the id of an event is kept after the event was handled.
    #: A month is a week more than required.
    inbox_retention_days: int = Field(30, ge=1, le=3650, validate_default=True)

    @field_validator("inbox_retention_days")
    @classmethod
    def _covers_every_source(cls, days: int, info: ValidationInfo) -> int:
        # Within this window no event has a second effect. Invalid tiers and ages are reported by
        # their own validators.
        delay = STANDSTILL + timedelta(seconds=sum(info.data.get("retry_tiers", ())))
        for source, age in _sources(info.data):
            shortest = ceil((age + delay) / _DAY)
            if days < shortest:
                raise ValueError(
                    f"must be at least {shortest}: {source} {age.days} days, plus "
                    f"{delay / _DAY:.2f} days for downtime and RETRY_TIERS"
                )
        return days


def _sources(settings: Mapping[str, Any]) -> Iterator[tuple[str, timedelta]]:
    """Yield a description of each source of old events, and their maximum age."""
    for name in ("parked_redrive_days", "outbox_retention_days"):
        if name in settings:
            yield f"{name.upper()} is", timedelta(days=settings[name])
    # Some events stay in the stream for longer, and consumers of the stream must skip them.
    yield "the stream keeps events for", STREAM_AGE

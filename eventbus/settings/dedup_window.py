"""The dedup window: for how long a service knows an event again, and for how long one comes back.

It must be the same for all services and for `orderctl`: one keeps what another sends again.
"""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from math import ceil
from typing import Any

from pydantic import Field, ValidationInfo, field_validator

from eventbus.settings.base import Settings
from eventbus.topology.limits import STREAM_AGE

#: Nothing limits how long a message waits in a queue, or an event in an outbox. So long a service,
#: its relay or the broker may stand still while a second copy waits there: longer than a holiday.
STANDSTILL = timedelta(days=7)

_DAY = timedelta(days=1)


class DedupWindow(Settings):
    """For how long what was sent and what was handled is remembered.

    To be named before the settings with the retry tiers, among the bases of a class that has both.
    """

    #: Days after the broker's confirm. Two weeks of timelines, and of events that can be sent again
    #: when the broker's data is lost.
    outbox_retention_days: int = Field(14, ge=1, le=3650)
    #: Days. An older event is not redriven: who has not mended the cause in two weeks must look at
    #: the order anyway.
    parked_redrive_days: int = Field(14, ge=1, le=3650)
    #: Days after it was handled: the dedup window. A month leaves a week beyond what it must have.
    inbox_retention_days: int = Field(30, ge=1, le=3650, validate_default=True)

    @field_validator("inbox_retention_days")
    @classmethod
    def _knows_what_comes_back(cls, days: int, info: ValidationInfo) -> int:
        # Inside it nothing can happen twice; a tier or a source that is wrong has its own line.
        way = STANDSTILL + timedelta(seconds=sum(info.data.get("retry_tiers", ())))
        for name, age in _sources(info.data):
            shortest = ceil((age + way) / _DAY)
            if days < shortest:
                raise ValueError(
                    f"must be at least {shortest}: {name} {age.days}, and a standstill and "
                    f"RETRY_TIERS add up to {way / _DAY:.2f} days"
                )
        return days


def _sources(settings: Mapping[str, Any]) -> Iterator[tuple[str, timedelta]]:
    """Yield what an old event can come back from, in words, and the age that it allows."""
    for name in ("parked_redrive_days", "outbox_retention_days"):
        if name in settings:
            yield f"{name.upper()} is", timedelta(days=settings[name])
    # Some stay in the stream for longer; who handles events from it must leave those out.
    yield "the stream keeps events for days, namely", STREAM_AGE

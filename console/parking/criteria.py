"""Criteria for the selection of parked messages."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from console.broker.parked_message import Parked


@dataclass(frozen=True, kw_only=True)
class Criteria:
    """Criteria that a message must meet, each with one of its values. Empty criteria are met."""

    types: tuple[str, ...] = ()
    #: Classes of exceptions, or reasons of the broker, as `orderctl parked groups` shows them.
    failures: tuple[str, ...] = ()
    frames: tuple[str, ...] = ()
    event_ids: tuple[str, ...] = ()
    #: The minimum time since the last failure. A message without a valid time does not meet it.
    older_than: timedelta | None = None

    def matches(self, parked: Parked, now: datetime | None = None) -> bool:
        """Return whether a message meets all criteria."""
        pairs = (
            (self.types, parked.type),
            (self.failures, parked.failure),
            (self.frames, parked.frame),
            (self.event_ids, parked.id),
        )
        if any(values and value not in values for values, value in pairs):
            return False
        if self.older_than is None:
            return True
        failed_at = parked.last_failure
        return failed_at is not None and (now or datetime.now(UTC)) - failed_at >= self.older_than

    def document(self) -> dict[str, Any]:
        """Return the criteria that are set, as JSON."""
        values = {name: list(getattr(self, name)) for name in _LISTS if getattr(self, name)}
        if self.older_than is not None:
            values["older_than_seconds"] = [self.older_than.total_seconds()]
        return values


_LISTS = ("types", "failures", "frames", "event_ids")

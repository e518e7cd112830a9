"""The timeline of an order: its events that the order service has published or handled."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Row, select
from sqlalchemy.orm import Session

from eventbus.consumer.inbox import inbox
from eventbus.outbox.table import outbox
from eventbus.telemetry.tracing import trace_id
from order_app import use_cases
from order_app.declaration import ORDER


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """An event of the timeline, with its publication or its handling.

    An event of this service has the times at which it was recorded and published, or the reason why
    the broker returned it. An event of another service has the time at which it was handled here,
    and the number of attempts. `handled_by` names the services that replied to an event of this
    service, or this service if the event is from another service.
    """

    id: UUID
    type: str
    source: str
    occurred_at: datetime
    trace_id: str | None
    causation_id: UUID | None
    handled_by: tuple[str, ...]
    recorded_at: datetime | None = None
    published_at: datetime | None = None
    unroutable_reason: str | None = None
    handled_at: datetime | None = None
    attempts: int | None = None


class _Envelope(msgspec.Struct):
    time: datetime
    traceparent: str | None = None
    causationid: UUID | None = None


_decode = msgspec.json.Decoder(_Envelope).decode


def timeline(session: Session, order_id: UUID) -> list[Entry]:
    """Return the events of an order, sorted by their times. Raises `UnknownOrder`."""
    use_cases.get(session, order_id)
    sent = session.execute(select(outbox).where(outbox.c.subject == order_id)).all()
    handled = session.execute(select(inbox).where(inbox.c.subject == order_id)).all()
    entries = [_sent(row, handled) for row in sent] + [_handled(row) for row in handled]
    return sorted(entries, key=lambda entry: (entry.occurred_at, entry.id))


def _sent(row: Row[Any], handled: Sequence[Row[Any]]) -> Entry:
    envelope = _decode(row.event)
    return Entry(
        id=row.event_id,
        type=row.type,
        source=ORDER.name,
        occurred_at=envelope.time,
        trace_id=trace_id(envelope.traceparent),
        causation_id=envelope.causationid,
        handled_by=_answered_by(row.event_id, handled),
        recorded_at=row.created_at,
        published_at=row.sent_at,
        unroutable_reason=row.unroutable_reason,
    )


def _handled(row: Row[Any]) -> Entry:
    return Entry(
        id=row.event_id,
        type=row.type,
        source=row.source,
        occurred_at=row.occurred_at,
        trace_id=trace_id(row.traceparent),
        causation_id=row.causationid,
        handled_by=(ORDER.name,),
        handled_at=row.handled_at,
        attempts=row.attempts,
    )


def _answered_by(event_id: UUID, handled: Sequence[Row[Any]]) -> tuple[str, ...]:
    return tuple(sorted({row.source for row in handled if row.causationid == event_id}))

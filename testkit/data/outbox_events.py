"""The events in an outbox, decoded."""

import json
from uuid import UUID

from sqlalchemy import select

from eventbus.database.db import Sessions, transaction
from eventbus.events import codec
from eventbus.events.envelope import Event
from eventbus.outbox.table import outbox


def outbox_events(sessions: Sessions, subject: UUID | None = None) -> list[Event]:
    """Return the events of an outbox, or of one subject, the oldest first."""
    query = select(outbox.c.event).order_by(outbox.c.id)
    if subject is not None:
        query = query.where(outbox.c.subject == subject)
    with transaction(sessions) as session:
        return [codec.decode(json.loads(row)) for row in session.scalars(query)]

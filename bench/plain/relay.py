"""A relay as most are written: kombu's own confirms, which wait for each message."""

from kombu.connection import Connection
from kombu.messaging import Producer
from sqlalchemy import func, select, update

from common.db import Sessions, transaction
from common.kombu_topology import EVENTS
from common.outbox import outbox

#: Events in one transaction.
BATCH = 500


def drain(sessions: Sessions, connection: Connection) -> int:
    """Publish all unsent events, each confirmed before the next one; returns how many."""
    producer = Producer(connection.channel(), exchange=EVENTS, auto_declare=False)
    sent = 0
    while True:
        with transaction(sessions) as session:
            rows = session.execute(
                select(outbox.c.id, outbox.c.event_id, outbox.c.type, outbox.c.event)
                .where(outbox.c.sent_at.is_(None))
                .order_by(outbox.c.id)
                .limit(BATCH)
                .with_for_update(skip_locked=True)
            ).all()
            if not rows:
                return sent
            for row in rows:
                producer.publish(
                    row.event,
                    routing_key=row.type,
                    content_type="application/json",
                    content_encoding="utf-8",
                    delivery_mode=2,
                    message_id=str(row.event_id),
                    confirm_timeout=10,
                )
            session.execute(
                update(outbox)
                .where(outbox.c.id.in_([row.id for row in rows]))
                .values(sent_at=func.now())
            )
        sent += len(rows)

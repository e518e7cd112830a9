"""A conventional relay: kombu's confirms, which are awaited for each message.

`python -m bench.plain.relay` is the relay of the whole flow: each event becomes a Celery task.
"""

import json
import time
from collections.abc import Callable
from typing import Any

from kombu.connection import Connection
from kombu.messaging import Producer
from sqlalchemy import func, select, update

from bench.plain.application import application, sessions
from bench.plain.topology import EVENTS as TASKS
from common.kombu_topology import EVENTS
from eventbus.database.db import Sessions, transaction
from eventbus.outbox.table import outbox

#: Events in one transaction.
BATCH = 500

#: Seconds between polls of an empty outbox. Every order waits for two polls; each poll costs a
#: transaction, with or without an order.
PAUSE = 0.1


def drain(database: Sessions, connection: Connection) -> int:
    """Publish all unsent events, each confirmed before the next, and return their number."""
    producer = Producer(connection.channel(), exchange=EVENTS, auto_declare=False)

    def publish(row: Any) -> None:
        producer.publish(
            row.event,
            routing_key=row.type,
            content_type="application/json",
            content_encoding="utf-8",
            delivery_mode=2,
            message_id=str(row.event_id),
            confirm_timeout=10,
        )

    return _drain(database, publish)


def main() -> None:
    """Send a task for each event of one service until the process exits."""
    app = application("plain-relay", "")
    with app.connection_for_write() as connection:
        producer = app.amqp.Producer(connection.channel(), auto_declare=False)

        def send(row: Any) -> None:
            app.send_task(
                row.type,
                kwargs={"event": json.loads(row.event)},
                task_id=str(row.event_id),
                exchange=TASKS.name,
                routing_key=row.type,
                # The workers' queues exist, so no task has to declare them.
                declare=[],
                producer=producer,
                retry=False,
            )

        while True:
            if not _drain(sessions(), send):
                time.sleep(PAUSE)


def _drain(database: Sessions, publish: Callable[[Any], None]) -> int:
    sent = 0
    while True:
        with transaction(database) as session:
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
                publish(row)
            session.execute(
                update(outbox)
                .where(outbox.c.id.in_([row.id for row in rows]))
                .values(sent_at=func.now())
            )
        sent += len(rows)


if __name__ == "__main__":
    main()

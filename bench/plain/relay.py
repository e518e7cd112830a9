"""A relay as most are written: kombu's own confirms, which wait for each message.

`python -m bench.plain.relay` is that of the whole flow: each event becomes a Celery task.
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

#: Seconds between two looks at an outbox that was empty. Every order waits for two of them; each
#: look costs a transaction, whether or not there is an order.
PAUSE = 0.1


def drain(own: Sessions, connection: Connection) -> int:
    """Publish all unsent events, each confirmed before the next one; returns how many."""
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

    return _drain(own, publish)


def main() -> None:
    """Send the tasks of one service's events until the process ends."""
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
                # The workers' queues are there: no declaration with each task.
                declare=[],
                producer=producer,
                retry=False,
            )

        while True:
            if not _drain(sessions(), send):
                time.sleep(PAUSE)


def _drain(own: Sessions, publish: Callable[[Any], None]) -> int:
    sent = 0
    while True:
        with transaction(own) as session:
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

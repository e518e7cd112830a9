"""An inventory as most are written: a Celery task for each message, a transaction for each task.

The same tables, the same TLS, the same guarantees: acknowledged late, deduplicated in the
transaction, stock locked in one order.
"""

import os
import ssl
from functools import cache
from typing import Any

from celery import Celery
from kombu.entity import Exchange, Queue
from sqlalchemy import URL, create_engine, insert, select
from sqlalchemy.orm import Session, sessionmaker

from common import codec, tls
from common.db import Sessions, transaction
from common.events import Event, OrderCreated, Quantity, StockReserved
from common.inbox import first_delivery
from common.outbox import append
from inventory_worker.models import Reservation, ReservationLine, Status, Stock

QUEUE = "plain.inventory"

app = Celery("plain-inventory")
app.conf.update(
    broker_url=os.environ.get("PLAIN_BROKER_URL", "amqps://"),
    broker_use_ssl={
        "ca_certs": os.environ.get("PLAIN_CA_FILE"),
        "cert_reqs": ssl.CERT_REQUIRED,
        "server_hostname": "127.0.0.1",
    },
    task_queues=[
        Queue(
            QUEUE,
            Exchange("", "direct", no_declare=True),
            routing_key=QUEUE,
            no_declare=True,
            queue_arguments={"x-queue-type": "quorum"},
        )
    ],
    task_default_queue=QUEUE,
    task_acks_late=True,
    task_ignore_result=True,
    worker_prefetch_multiplier=50,
    worker_concurrency=2,
    worker_enable_remote_control=False,
    worker_send_task_events=False,
    worker_disable_rate_limits=True,
    worker_hijack_root_logger=False,
)


@cache
def _sessions() -> Sessions:
    address = URL.create(
        "postgresql+psycopg2",
        username=os.environ["PLAIN_DATABASE_USER"],
        password=os.environ["PLAIN_DATABASE_PASSWORD"],
        host="127.0.0.1",
        port=int(os.environ["PLAIN_DATABASE_PORT"]),
        database=os.environ["PLAIN_DATABASE_NAME"],
        query=tls.database_options(os.environ["PLAIN_CA_FILE"]),  # type: ignore[arg-type]
    )
    return sessionmaker(create_engine(address, pool_size=1), expire_on_commit=False)


@app.task(name="order.created")  # type: ignore[untyped-decorator]
def order_created(*, event: dict[str, Any]) -> None:
    """Reserve the stock of one order."""
    decoded = codec.decode(event)
    with transaction(_sessions()) as session:
        if first_delivery(session, decoded, attempts=1):
            _reserve(session, decoded)


def _reserve(session: Session, event: Event) -> None:
    data = event.data
    assert isinstance(data, OrderCreated)
    wanted = {line.sku: line.quantity for line in data.lines}
    locked = select(Stock).where(Stock.sku.in_(wanted)).order_by(Stock.sku).with_for_update()
    for level in session.scalars(locked):
        level.reserved += wanted[level.sku]
    reservation = Reservation(order_id=event.subject, status=Status.RESERVED, sequence=1)
    session.add(reservation)
    session.flush()
    lines = [{"order_id": event.subject, "sku": s, "quantity": n} for s, n in wanted.items()]
    session.execute(insert(ReservationLine), lines)
    held = tuple(Quantity(sku=sku, quantity=quantity) for sku, quantity in wanted.items())
    answer = StockReserved(lines=held)
    append(
        session,
        Event(
            source="inventory",
            subject=event.subject,
            sequence=1,
            causationid=event.id,
            data=answer,
        ),
    )

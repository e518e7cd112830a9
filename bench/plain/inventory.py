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
from sqlalchemy import URL, create_engine
from sqlalchemy.orm import sessionmaker

from common import codec, tls
from common.db import Sessions, transaction
from common.inbox import first_delivery
from inventory_worker.handlers import on_order_created

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
            on_order_created(session, decoded)

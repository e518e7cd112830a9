"""A conventional service on Celery: its application, and the sessions of its database.

There is a task for each event, acknowledged after its commit.
"""

import os
import ssl
from functools import cache

from celery import Celery
from kombu.entity import Exchange, Queue
from sqlalchemy import URL, create_engine
from sqlalchemy.orm import sessionmaker

from eventbus import tls
from eventbus.database.db import Sessions


def application(name: str, queue: str) -> Celery:
    """Return a service's Celery application, which consumes this queue of events."""
    app = Celery(name)
    app.conf.update(
        broker_url=os.environ.get("PLAIN_BROKER_URL", "amqps://"),
        broker_use_ssl={
            "ca_certs": os.environ.get("PLAIN_CA_FILE"),
            "cert_reqs": ssl.CERT_REQUIRED,
            "server_hostname": "127.0.0.1",
        },
        broker_transport_options={"confirm_publish": True},
        broker_connection_retry_on_startup=True,
        task_queues=[
            Queue(
                queue,
                Exchange("", "direct", no_declare=True),
                routing_key=queue,
                no_declare=True,
                queue_arguments={"x-queue-type": "quorum"},
            )
        ],
        task_default_queue=queue,
        task_acks_late=True,
        task_ignore_result=True,
        worker_prefetch_multiplier=50,
        worker_concurrency=2,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_disable_rate_limits=True,
        worker_hijack_root_logger=False,
    )
    return app


@cache
def sessions() -> Sessions:
    """Return the sessions of the service's database, with one connection for each process."""
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

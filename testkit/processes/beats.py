"""Beat's connection, opened in the process of the test."""

from collections.abc import Iterator
from contextlib import contextmanager

from celery import Celery

from scheduler.ticks import Ticks
from testkit.servers.vhosts import Vhost


@contextmanager
def ticks(vhost: Vhost, exchange: str) -> Iterator[Ticks]:
    """Yield the sender of ticks to an exchange."""
    app = Celery("beat", broker=vhost.amqp_url, set_as_current=False)
    app.conf.update(broker_use_ssl=vhost.tls)
    sender = Ticks.of(app, heartbeat=30, exchange=exchange)
    try:
        yield sender
    finally:
        sender.close()

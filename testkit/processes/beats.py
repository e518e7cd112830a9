"""Beat's connection in the test's own process."""

from collections.abc import Iterator
from contextlib import contextmanager

from celery import Celery

from scheduler.ticks import Ticks
from testkit.servers.vhosts import Vhost


@contextmanager
def ticks(vhost: Vhost, exchange: str) -> Iterator[Ticks]:
    """What sends ticks to an exchange of the test's."""
    app = Celery("beat", broker=vhost.amqp_url, set_as_current=False)
    app.conf.update(broker_use_ssl=vhost.tls)
    made = Ticks.of(app, heartbeat=30, exchange=exchange)
    try:
        yield made
    finally:
        made.close()

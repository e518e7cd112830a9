"""Beat in the test's own process."""

from collections.abc import Iterator
from contextlib import contextmanager

from celery import Celery

from scheduler.punctual import PunctualScheduler
from tests.support.vhosts import Vhost


@contextmanager
def beat(vhost: Vhost, exchange: str, routing_key: str) -> Iterator[PunctualScheduler]:
    """A connected scheduler that has one entry, `tick`."""
    app = Celery(broker=vhost.amqp_url, set_as_current=False)
    app.conf.update(broker_use_ssl=vhost.tls, task_ignore_result=True)
    options = {"exchange": exchange, "routing_key": routing_key, "declare": []}
    made = PunctualScheduler(app, lazy=True)
    made.update_from_dict({"tick": {"task": "tick", "schedule": 1.0, "options": options}})
    made.connection.connect()
    try:
        yield made
    finally:
        made.close()

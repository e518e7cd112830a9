"""Beat on a real broker: it knows of each tick whether the broker took it."""

from collections.abc import Iterator

import pytest
from celery import Celery
from celery.beat import SchedulingError

from scheduler.punctual import PunctualScheduler
from tests.support.vhosts import Vhost

EXCHANGE, QUEUE = "amq.direct", "ticks"


@pytest.fixture
def beat(vhost: Vhost) -> Iterator[PunctualScheduler]:
    """A scheduler with one tick, which goes to a queue that has room for one message."""
    arguments = {"x-max-length": 1, "x-overflow": "reject-publish"}
    queue = {"durable": True, "arguments": arguments}
    vhost.request("PUT", f"/queues/{vhost.name}/{QUEUE}", json=queue)
    binding = {"routing_key": QUEUE}
    vhost.request("POST", f"/bindings/{vhost.name}/e/{EXCHANGE}/q/{QUEUE}", json=binding)
    app = Celery(broker=vhost.amqp_url, set_as_current=False)
    app.conf.update(broker_use_ssl=vhost.tls, task_ignore_result=True)
    options = {"exchange": EXCHANGE, "routing_key": QUEUE, "declare": []}
    schedule = {"tick": {"task": "tick", "schedule": 1.0, "options": options}}
    made = PunctualScheduler(app, lazy=True)
    made.update_from_dict(schedule)
    yield made
    made.close()


def test_a_tick_that_the_broker_does_not_take_goes_by_another_connection(
    vhost: Vhost, beat: PunctualScheduler
) -> None:
    # given a queue that is full after the first tick
    tick = beat.schedule["tick"]
    beat.apply_async(tick, producer=beat.producer)
    first = beat.connection.connection

    # when another one is due
    with pytest.raises(SchedulingError):
        beat.apply_async(tick, producer=beat.producer)

    # then it was tried on other connections, and the next one is taken when there is room
    assert beat.connection.connection is not first
    vhost.request("DELETE", f"/queues/{vhost.name}/{QUEUE}/contents")
    beat.apply_async(tick, producer=beat.producer)
    assert vhost.depth(QUEUE) == 1

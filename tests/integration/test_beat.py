"""Beat on a real broker: it knows of each tick whether the broker took it."""

import pytest
from celery.beat import SchedulingError

from tests.support.beats import beat
from tests.support.vhosts import Vhost

EXCHANGE, QUEUE = "amq.direct", "ticks"


def test_a_tick_that_the_broker_does_not_take_goes_by_another_connection(vhost: Vhost) -> None:
    # given a queue that is full after the first tick
    arguments = {"x-max-length": 1, "x-overflow": "reject-publish"}
    queue = {"durable": True, "arguments": arguments}
    vhost.request("PUT", f"/queues/{vhost.name}/{QUEUE}", json=queue)
    binding = {"routing_key": QUEUE}
    vhost.request("POST", f"/bindings/{vhost.name}/e/{EXCHANGE}/q/{QUEUE}", json=binding)
    with beat(vhost, EXCHANGE, QUEUE) as clock:
        tick = clock.schedule["tick"]
        clock.apply_async(tick, producer=clock.producer)
        first = clock.connection.connection

        # when another one is due
        with pytest.raises(SchedulingError):
            clock.apply_async(tick, producer=clock.producer)

        # then it was tried on another connection, and the next one is taken when there is room
        assert clock.connection.connection is not first
        vhost.request("DELETE", f"/queues/{vhost.name}/{QUEUE}/contents")
        clock.apply_async(tick, producer=clock.producer)
        assert vhost.depth(QUEUE) == 1

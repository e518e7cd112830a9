"""How fast this machine does a fixed piece of work, to compare machines and days.

The work is the bench's own and never changes with the system: a figure divided by it is less of the
machine than the figure alone.
"""

import json
import time
from collections.abc import Callable

from kombu.messaging import Producer

from bench.system.measured import Measured
from bench.system.servers import connection

#: Of each: a second or less on an idle machine.
_ROUNDS = 3_000
_COMMITS = 200
_PUBLISHES = 300

_QUEUE = "bench.figures.calibration"
_CREATE = "CREATE TABLE IF NOT EXISTS bench_calibration (id bigserial PRIMARY KEY, what text)"
_COMMIT = "INSERT INTO bench_calibration (what) VALUES ('an order') RETURNING id"
_DROP = "DROP TABLE bench_calibration"


def calibrate(measured: Measured) -> dict[str, float]:
    """Return what the machine does in a second, one after the other, on the system's own servers.

    `python_per_s` are rounds of JSON, `commits_per_s` inserts of a row, each durable before the
    next, `confirms_per_s` messages to a quorum queue, each confirmed before the next. The system
    must rest: what it does meanwhile slows all three down.
    """
    return {
        "python_per_s": _python(),
        "commits_per_s": _commits(measured),
        "confirms_per_s": _confirms(measured),
    }


def _python() -> float:
    document = {"lines": [{"sku": f"BENCH-{n:02}", "quantity": n} for n in range(20)]}

    def work() -> None:
        for _ in range(_ROUNDS):
            json.loads(json.dumps(document))

    return _ROUNDS / _seconds(work)


def _commits(measured: Measured) -> float:
    with connection(measured, "order") as database:
        database.exec_driver_sql(_CREATE)

        def work() -> None:
            for _ in range(_COMMITS):
                database.exec_driver_sql(_COMMIT)

        taken = _seconds(work)
        database.exec_driver_sql(_DROP)
    return _COMMITS / taken


def _confirms(measured: Measured) -> float:
    with measured.vhost.connect(confirm_publish=True) as broker:
        channel = broker.default_channel
        arguments = {"x-queue-type": "quorum"}
        channel.queue_declare(_QUEUE, durable=True, auto_delete=False, arguments=arguments)
        producer = Producer(channel)

        def work() -> None:
            for _ in range(_PUBLISHES):
                producer.publish("an order", routing_key=_QUEUE, delivery_mode=2)

        taken = _seconds(work)
        # It stays: a quorum queue's end costs the broker more than its life.
        channel.queue_purge(_QUEUE)
    return _PUBLISHES / taken


def _seconds(work: Callable[[], None]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began

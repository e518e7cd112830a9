"""The speed of this machine at fixed work, for comparisons between machines and days.

The work belongs to the benchmark, and never changes with the system: the quotient of a figure and
the calibration depends less on the machine than the figure alone.
"""

import json
import time
from collections.abc import Callable

from kombu.messaging import Producer

from bench.system.measured import Measured
from bench.system.servers import connection

#: Repetitions of each operation, which take at most a second on an idle machine.
_ROUNDS = 3_000
_COMMITS = 200
_PUBLISHES = 300

_QUEUE = "bench.figures.calibration"
_CREATE = "CREATE TABLE IF NOT EXISTS bench_calibration (id bigserial PRIMARY KEY, what text)"
_COMMIT = "INSERT INTO bench_calibration (what) VALUES ('an order') RETURNING id"
_DROP = "DROP TABLE bench_calibration"


def calibrate(measured: Measured) -> dict[str, float]:
    """Return the machine's operations per second, measured in sequence on the system's servers.

    `python_per_s` counts rounds of JSON, `commits_per_s` inserts of a row, each durable before the
    next, and `confirms_per_s` messages to a quorum queue, each confirmed before the next. The
    system must be idle: other work slows all three down.
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

        duration = _seconds(work)
        database.exec_driver_sql(_DROP)
    return _COMMITS / duration


def _confirms(measured: Measured) -> float:
    with measured.vhost.connect(confirm_publish=True) as broker:
        channel = broker.default_channel
        arguments = {"x-queue-type": "quorum"}
        channel.queue_declare(_QUEUE, durable=True, auto_delete=False, arguments=arguments)
        producer = Producer(channel)

        def work() -> None:
            for _ in range(_PUBLISHES):
                producer.publish("an order", routing_key=_QUEUE, delivery_mode=2)

        duration = _seconds(work)
        # The queue remains, because deleting a quorum queue costs the broker more than keeping it.
        channel.queue_purge(_QUEUE)
    return _PUBLISHES / duration


def _seconds(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start

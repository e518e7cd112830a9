"""The Celery app of a service's process: a worker, or a process that runs loops."""

import os
from collections.abc import Iterator
from functools import cached_property
from typing import Any

from celery import signals
from kombu.entity import Queue
from prometheus_client import Gauge
from prometheus_client.registry import Collector

from eventbus.database import db
from eventbus.database.db import Sessions
from eventbus.database.metrics import Database, Pool, Read
from eventbus.settings.service import ServiceSettings
from eventbus.telemetry import metrics
from eventbus.telemetry.certificate_expiry import Certificates, sources
from eventbus.topology.service import Service
from eventbus.worker.bootsteps import MetricsStep, WakeEventLoopStep
from eventbus.worker.broker_app import BrokerApp

#: The nice value of the processes of a service that is not essential: if all processors are busy,
#: such a process receives a tenth of the CPU time of a process whose nice value is 0.
_NICENESS = 10


class ServiceApp(BrokerApp):
    """The app of one process of a service, with its queue, metrics, priority and database."""

    def __init__(
        self,
        name: str,
        *,
        settings: type[ServiceSettings],
        config: str,
        service: Service,
        queue: Queue | None = None,
        consumer: str = "eventbus.worker.safe_consumer:SafeConsumer",
        read: Read | None = None,
        **options: Any,
    ) -> None:
        super().__init__(name, settings=settings, config=config, **options)
        self.service = service
        self._queue = queue
        self._consumer = consumer
        self._read = read
        #: Whether the process consumes, which is exported as a gauge.
        self.is_connected = False
        self.connected = Gauge(
            "orders_broker_connected", "1 while this process consumes.", registry=None
        )
        self.steps["consumer"].add(WakeEventLoopStep)
        self.steps["worker"].add(MetricsStep)
        # The priority is set before the children are forked, because they inherit it.
        signals.worker_init.connect(self._lower_priority)

    @cached_property
    def sessions(self) -> Sessions:
        """The database sessions of a child process; the parent must not access them."""
        return db.sessions(db.engine(self.settings, session=db.BY_KEY))

    def turned(self) -> None:
        """Record that the main thread is running, even while it waits for the broker."""

    def consumed_queue(self) -> Queue | None:
        """Return the queue that the process consumes, if any."""
        return self._queue

    def collectors(self) -> Iterator[Collector]:
        """Return the collectors of the metrics page, besides the process's counters."""
        yield metrics.Release(self.settings.release)
        yield self.connected
        yield Certificates(sources(self.settings))
        if self._read:
            # Metrics have a separate engine, so a scrape does not wait for the process's work.
            yield Database(db.sessions(db.scrape_engine(self.settings)), self._read)
            yield Pool()

    def _lower_priority(self, **_: Any) -> None:
        niceness = self.settings.niceness
        if niceness is None:
            niceness = 0 if self.service.essential else _NICENESS
        os.nice(niceness)

    def _derived_settings(self) -> dict[str, Any]:
        derived = super()._derived_settings() | {"worker_consumer": self._consumer}
        if queue := self.consumed_queue():
            # Celery would declare a missing default queue, without the queue's arguments.
            derived |= {"task_queues": [queue], "task_default_queue": queue.name}
        return derived

"""The Celery app of a process, which reads its settings at startup rather than at import."""

import os
from collections.abc import Iterator
from functools import cached_property
from typing import Any

from celery import Celery, signals
from kombu.entity import Queue
from prometheus_client import Gauge
from prometheus_client.registry import Collector

import eventbus.messaging.amqps  # noqa: F401 - registers its connections with Celery
from eventbus import tls
from eventbus.database import db
from eventbus.database.db import Sessions
from eventbus.database.metrics import Database, Pool, Read
from eventbus.settings.base import load
from eventbus.settings.broker import BrokerSettings, broker_url
from eventbus.telemetry import metrics
from eventbus.telemetry.certificate_expiry import Certificates, sources
from eventbus.topology.service import Service
from eventbus.worker.bootsteps import HealthStep, MetricsStep, WakeEventLoopStep

#: The nice value of the processes of a service that is not essential: if all processors are busy,
#: such a process receives a tenth of the CPU time of a process whose nice value is 0.
_NICENESS = 10


class ServiceApp(Celery):
    """The app of one process, with Celery settings from a module and the broker from `settings`."""

    log_cls = "eventbus.telemetry.logs:WorkerLogging"

    def __init__(
        self,
        name: str,
        *,
        settings: type[BrokerSettings],
        config: str,
        service: Service | None = None,
        queue: Queue | None = None,
        consumer: str = "eventbus.worker.safe_consumer:SafeConsumer",
        read: Read | None = None,
        **options: Any,
    ) -> None:
        super().__init__(name, **options)
        self.service = service
        self._settings = settings
        self._queue = queue
        self._consumer = consumer
        self._read = read
        #: 1 while the process consumes.
        self.is_connected = False
        self.connected = Gauge(
            "orders_broker_connected", "1 while this process consumes.", registry=None
        )
        self.config_from_object(config)
        self.add_defaults(self._broker)
        self.steps["consumer"] |= {HealthStep, WakeEventLoopStep}
        self.steps["worker"].add(MetricsStep)
        if service:
            # Before the children are forked, which inherit the priority.
            signals.worker_init.connect(self._lower_priority)

    @cached_property
    def settings(self) -> Any:
        """The validated settings; the process exits at the first access if one is invalid."""
        return load(self._settings)

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
            # A separate engine, so a scrape does not wait for the process's work.
            yield Database(db.sessions(db.engine(self.settings)), self._read)
            yield Pool()

    def _lower_priority(self, **_: Any) -> None:
        niceness = self.settings.niceness
        if niceness is None:
            niceness = 0 if self.service and self.service.essential else _NICENESS
        os.nice(niceness)

    def _broker(self) -> dict[str, Any]:
        settings = self.settings
        defaults: dict[str, Any] = {
            "broker_url": broker_url(settings),
            "broker_use_ssl": tls.broker_options(settings),
            "broker_heartbeat": settings.broker_heartbeat,
            "broker_transport_options": {"client_properties": {"connection_name": self.main}},
            "worker_consumer": self._consumer,
        }
        if queue := self.consumed_queue():
            # Celery would declare a missing default queue, without the queue's arguments.
            defaults |= {"task_queues": [queue], "task_default_queue": queue.name}
        return defaults

"""Ticks as messages: what is late is worthless, so that none is waited for."""

from uuid import uuid4

from amqp import Message
from celery import Celery

from common.kombu_topology import TICKS
from eventbus.messaging.amqps import Connection
from eventbus.messaging.best_effort_publisher import BestEffortPublisher
from eventbus.messaging.event_message import task_headers

#: A call without arguments, in Celery's message protocol, version 2.
_BODY = b'[[],{},{"callbacks":null,"errbacks":null,"chain":null,"chord":null}]'


class Ticks:
    """Sends ticks over one connection, which stays while the broker blocks it."""

    def __init__(self, publisher: BestEffortPublisher, *, exchange: str = TICKS.name) -> None:
        self._publisher = publisher
        self._exchange = exchange

    @classmethod
    def of(cls, app: Celery, *, heartbeat: int, exchange: str = TICKS.name) -> "Ticks":
        """Return the ticks of an app; they connect at the first one."""

        # Heartbeats, so that a connection whose peer is gone is noticed and replaced.
        def connect() -> Connection:
            connection: Connection = app.connection_for_write(heartbeat=heartbeat)
            return connection

        publisher = BestEffortPublisher(connect, name=app.main, what="ticks", confirmed=True)
        return cls(publisher, exchange=exchange)

    def send(self, queue: str) -> None:
        """Send a tick to the queue of this name if it can leave at once, or drop it."""
        name = str(uuid4())
        message = Message(
            _BODY,
            content_type="application/json",
            content_encoding="utf-8",
            correlation_id=name,
            application_headers=task_headers(name, queue, None),
        )
        self._publisher.publish(message, exchange=self._exchange, routing_key=queue)

    def close(self) -> None:
        """Close the connection without a word: a broker that blocks it does not listen."""
        self._publisher.close()

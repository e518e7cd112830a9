"""Ticks as messages. A late tick is useless, so sending never waits."""

from uuid import uuid4

from amqp import Message
from celery import Celery

from common.bus import TICKS
from eventbus.messaging.amqps import Connection
from eventbus.messaging.best_effort_publisher import BestEffortPublisher
from eventbus.messaging.event_message import task_headers

#: A call without arguments, in Celery's message protocol, version 2.
_BODY = b'[[],{},{"callbacks":null,"errbacks":null,"chain":null,"chord":null}]'


class Ticks:
    """A publisher of ticks over one connection, which is kept while the broker blocks it."""

    def __init__(self, publisher: BestEffortPublisher, *, exchange: str = TICKS.name) -> None:
        self._publisher = publisher
        self._exchange = exchange

    @classmethod
    def of(cls, app: Celery, *, heartbeat: int, exchange: str = TICKS.name) -> "Ticks":
        """Return the publisher of an app's ticks, which connects at the first tick."""

        # Heartbeats detect a connection whose peer has disappeared, so that it is replaced.
        def connect() -> Connection:
            connection: Connection = app.connection_for_write(heartbeat=heartbeat)
            return connection

        publisher = BestEffortPublisher(connect, name=app.main, what="ticks", confirmed=True)
        return cls(publisher, exchange=exchange)

    def send(self, queue: str) -> None:
        """Send a tick to the queue of this name, or drop it if it cannot be sent immediately."""
        task_id = str(uuid4())
        message = Message(
            _BODY,
            content_type="application/json",
            content_encoding="utf-8",
            correlation_id=task_id,
            application_headers=task_headers(task_id, queue, None),
        )
        self._publisher.publish(message, exchange=self._exchange, routing_key=queue)

    def close(self) -> None:
        """Close the connection without notifying the broker, which may not be reading."""
        self._publisher.close()

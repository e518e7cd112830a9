"""A Celery consumer that no message can stop and that loses no message.

Celery acknowledges messages that it cannot decode, and stops on bodies that are JSON but not a
task. Here each message is checked before Celery processes it, and an invalid message is rejected.
"""

import logging
from collections.abc import Callable
from typing import Any
from uuid import UUID

from celery import bootsteps
from celery.worker.consumer import Consumer
from celery.worker.consumer.connection import Connection
from celery.worker.consumer.consumer import STOP_CONDITIONS
from kombu.message import Message

from eventbus.consumer.cause import Cause
from eventbus.errors import InvalidEvent
from eventbus.messaging.best_effort_publisher import BestEffortPublisher
from eventbus.messaging.copy_publisher import CopyPublisher
from eventbus.telemetry.privacy import described
from eventbus.worker.consumer_connection import ConsumerConnection
from eventbus.worker.observation import Observation
from eventbus.worker.read_ahead import read_ahead
from eventbus.worker.settlement import Settlement
from eventbus.worker.task_events import TaskEvents

log = logging.getLogger(__name__)

#: Maximum size of a body in bytes, or of a decoded body in characters. The largest event of this
#: system is about 30 kB.
BODY_LIMIT = 256 * 1024

#: Maximum seconds between two attempts to connect to the broker.
RECONNECT_INTERVAL = 5

#: Headers with which a publisher could change how a task runs, or what runs after it.
_FORBIDDEN = ("eta", "expires", "stamped_headers", "compression", "shadow", "group")


class SafeConsumer(Consumer):
    """A consumer that rejects every message except a plain call to one of this worker's tasks."""

    class Blueprint(Consumer.Blueprint):
        """Celery's steps, except delayed delivery, which declares objects and widens bindings."""

        default_steps = [  # noqa: RUF012 - as Celery has it
            step for step in Consumer.Blueprint.default_steps if "delayed_delivery" not in step
        ]

    def __init__(self, *args: Any, worker_options: dict[str, Any] | None = None, **kwargs: Any):
        # These steps need the permission to declare, or wait for the broker. Task events and
        # heartbeats are sent by `eventbus.worker.task_events` instead.
        disabled = {"without_mingle": True, "without_gossip": True, "without_heartbeat": True}
        super().__init__(*args, worker_options=(worker_options or {}) | disabled, **kwargs)

    def ensure_connected(self, conn: Any) -> Any:
        """Connect with a short backoff: after a long outage Celery would wait for half a minute."""
        ensure_connection = conn.ensure_connection

        def ensure(errback: Any, max_retries: Any, *, callback: Callable[[], None]) -> Any:
            def on_retry() -> None:
                self.app.turned()
                callback()

            return ensure_connection(
                errback, max_retries, callback=on_retry, interval_max=RECONNECT_INTERVAL
            )

        conn.ensure_connection = ensure
        return super().ensure_connected(conn)

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Message], None]:
        """Return Celery's message handler, preceded by the check."""
        handle = super().create_task_handler(*args, **kwargs)

        def on_message(message: Message) -> None:
            try:
                self.check(message)
            except Exception as error:
                self.refuse(message, error)
            else:
                self.accept(message)
                handle(message)

        return on_message

    def check(self, message: Message) -> None:
        """Raise `InvalidEvent` unless the message is a plain call to a task of this worker."""
        if message.errors:
            raise InvalidEvent(f"undecodable: {message.errors[0][1]}")
        if len(message.body) > BODY_LIMIT:
            raise InvalidEvent(f"body has {len(message.body)} bytes, more than {BODY_LIMIT}")
        check_headers(message.headers, known=self.app.tasks)
        check_body(message)

    def accept(self, message: Message) -> None:
        """Prepare a valid message for Celery."""

    def refuse(self, message: Message, error: Exception) -> None:
        """Reject the message; if its queue has no dead-letter exchange, the message is lost."""
        log.error("invalid message dropped", extra={"reason": described(error)})
        message.reject()

    def on_decode_error(self, message: Message, exc: Exception) -> None:
        """Reject a message that kombu cannot decode, instead of acknowledging it."""
        self.refuse(message, InvalidEvent(f"undecodable: {exc}"))

    def on_unknown_message(self, body: Any, message: Message) -> None:
        """Reject a message that is not a task."""
        self.refuse(message, InvalidEvent("not a task"))

    def on_unknown_task(self, body: Any, message: Message, exc: Exception) -> None:
        """Reject a task of another worker."""
        self.refuse(message, InvalidEvent(f"unknown event type {exc}"))

    def on_invalid_task(self, body: Any, message: Message, exc: Exception) -> None:
        """Reject a task that Celery cannot read."""
        self.refuse(message, InvalidEvent(str(exc)))


class ConnectionStep(bootsteps.StartStopStep):
    """The step that creates and closes the state of each connection: a `ConsumerConnection`."""

    requires = (Connection,)

    def start(self, consumer: Any) -> None:
        """Create the state of the new connection."""
        consumer.begin()
        read_ahead(consumer.connection.connection)

    def stop(self, consumer: Any) -> None:
        """Close the state. At shutdown, first wait briefly, to avoid redeliveries."""
        if consumer.blueprint.state in STOP_CONDITIONS:
            # Running batches can still be acknowledged until `shutdown` is called.
            consumer.copies.flush(timeout=1.0)
        else:
            consumer.end()

    def shutdown(self, consumer: Any) -> None:
        """Close the state and stop publishing."""
        consumer.end()
        consumer.copies.stop()


class EventConsumer(SafeConsumer):
    """A consumer that parks invalid messages with the reason and settles each separately."""

    class Blueprint(SafeConsumer.Blueprint):
        """The same steps, and the state of the connection."""

        default_steps = [*SafeConsumer.Blueprint.default_steps, ConnectionStep]  # noqa: RUF012

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        settings, service = self.app.settings, self.app.service
        # All attributes except `life` outlive a connection.
        self.pause = self.app.pause
        self.observation = Observation()
        self.copies = CopyPublisher(
            self.app.connection_for_write,
            name=f"{self.app.main} copies",
            call_soon=self.call_soon,
        )
        self.settlement = Settlement(
            self.copies.publish,
            service=service,
            retry_tiers=settings.retry_tiers,
            release=settings.release,
        )
        self.life: ConsumerConnection | None = None
        if settings.task_events:
            name = f"{self.app.main} task events"
            publisher = BestEffortPublisher(self.app.connection_for_write, name=name)
            # Celery's step, which is off, has set it to None.
            self.event_dispatcher = TaskEvents(
                publisher, hostname=self.hostname, service=service.name
            )
            self.observation = Observation(self.event_dispatcher)

    def begin(self) -> None:
        """Create the state of a connection, after closing the state of the previous connection."""
        self.end()
        self.life = ConsumerConnection(self)

    def end(self) -> None:
        """Close the state of the connection, if there is one."""
        life, self.life = self.life, None
        if life:
            life.close()

    def accept(self, message: Any) -> None:
        """Register the message until it is settled."""
        message.life = self._life
        message.receipt = self._life.receive(message)

    def refuse(self, message: Message, error: Exception) -> None:
        """Park the message with the reason."""
        self._life.park(self._life.receive(message), Cause.of(error))

    @property
    def _life(self) -> ConsumerConnection:
        if self.life is None:
            raise ConnectionError("the connection has ended")
        return self.life


def check_headers(headers: dict[str, Any], *, known: Any) -> None:
    """Raise `InvalidEvent` unless these are the headers of a plain call to a known task."""
    task, event_id, retries = (headers.get(name) for name in ("task", "id", "retries"))
    if not isinstance(task, str) or task not in known or task.startswith("celery."):
        raise InvalidEvent("unknown event type")
    if not _is_uuid(event_id):
        raise InvalidEvent("header id is not a UUID")
    if type(retries) is not int or retries < 0:
        raise InvalidEvent("header retries is not a whole number")
    if headers.get("timelimit") not in (None, [None, None]):
        raise InvalidEvent("header timelimit is set")
    for name in _FORBIDDEN:
        if headers.get(name) is not None:
            raise InvalidEvent(f"header {name} is set")


def _is_uuid(value: object) -> bool:
    if not isinstance(value, str):
        return False
    try:
        UUID(value)
    except ValueError:
        return False
    return True


def check_body(message: Message) -> None:
    """Raise `InvalidEvent` unless the body may be JSON; the child process parses it."""
    if message.content_type != "application/json":
        raise InvalidEvent("content type is not application/json")
    if message.content_encoding not in (None, "utf-8"):
        raise InvalidEvent("content encoding is not utf-8")

"""Broker operations for catch-up, on a service's queue, its marker and the stream."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from amqp import Channel, Message
from amqp.exceptions import NotFound

from eventbus.catch_up.copies import Copies
from eventbus.catch_up.rereading import Rereading
from eventbus.messaging import stream
from eventbus.messaging.amqps import Connection
from eventbus.topology.limits import PARTS_LIMIT
from eventbus.topology.service import MISSED, Service

#: A function that returns an unopened connection for one purpose, `reader` or `publisher`.
Connect = Callable[[str], Connection]

_AMQPS = Connection(transport="amqps")

#: The errors that a method raises if the broker fails.
BROKER_ERRORS: tuple[type[Exception], ...] = (
    *_AMQPS.connection_errors,
    *_AMQPS.channel_errors,
)

#: Seconds to wait for the stream's oldest message.
_OLDEST_TIMEOUT = 5.0


class CatchUpBroker:
    """The two connections of a process: one for reading, and one for publishing during a pass.

    They are separate because a broker that does not accept messages blocks all other traffic on the
    connection that publishes.
    """

    def __init__(self, service: Service, connect: Connect) -> None:
        self._service = service
        self._connect = connect
        self._connections: dict[str, Connection] = {}
        self._channel: Channel | None = None
        self._copies: Copies | None = None
        #: The stream, left open by the last batch.
        self.reading: Rereading | None = None

    @property
    def copies(self) -> Copies:
        """The publisher to the service's queue."""
        if self._copies is None:
            self._copies = Copies(
                self._open("publisher"),
                self._service.queue,
                exchange=self._service.retry_exchange,
                routing_key=MISSED,
            )
        return self._copies

    @property
    def is_blocked(self) -> bool:
        """Whether the broker currently rejects copies, for lack of memory or disk space."""
        return self._copies is not None and self._copies.is_blocked

    def depth(self) -> int:
        """Return the number of ready messages in the service's queue; also send heartbeats."""
        channel = self._reader()
        for connection in self._connections.values():
            with suppress(TimeoutError):
                connection.drain_events(timeout=0)
            connection.heartbeat_check(rate=2)
        declared = channel.queue_declare(self._service.queue, passive=True)
        return int(declared.message_count)

    def is_empty(self) -> bool:
        """Return whether all parts of the service's queue are empty and have a consumer.

        RabbitMQ also reports no messages and no consumers for a quorum queue whose leader does not
        reply within 250 ms. A count of 0 therefore means that a queue is empty only if it has a
        consumer.
        """
        return all(
            part.consumer_count > 0 and part.message_count == 0 for part in self._declared_parts()
        )

    def _declared_parts(self) -> Iterator[Any]:
        # The number of parts comes from the broker rather than from the declaration. A part that is
        # added later has no earlier events.
        for part in range(PARTS_LIMIT):
            with self._open("reader").channel() as channel:
                try:
                    yield channel.queue_declare(self._service.part_queue(part), passive=True)
                except NotFound:
                    if part == 0:
                        raise
                    return

    def marker(self) -> Message | None:
        """Return the marker, unacknowledged, or None if the queue has not dropped a message."""
        marker: Message | None = self._reader().basic_get(self._service.overflow)
        return marker

    def acknowledge(self, marker: Message) -> None:
        """Remove the marker."""
        self._reader().basic_ack(marker.delivery_tag)

    def end(self) -> int:
        """Return the stream's end."""
        return stream.end(self._open("reader"), self._service.bus.stream)

    def oldest(self) -> int | None:
        """Return the offset of the oldest message of the stream, or None."""
        entry = stream.oldest(
            self._open("reader"), self._service.bus.stream, timeout=_OLDEST_TIMEOUT
        )
        return entry.offset if entry else None

    def read_from(self, offset: int) -> Rereading:
        """Open the stream at an offset."""
        if self.reading:
            self.reading.close()
        self.reading = Rereading(self._open("reader"), self._service, offset)
        return self.reading

    def end_reading(self) -> None:
        """Close the stream and the publishing connection."""
        if self.reading:
            self.reading.close()
        self.reading = self._copies = None
        self._close("publisher")

    def close(self) -> None:
        """Close all connections. The next use opens them again."""
        self.reading = self._copies = self._channel = None
        for purpose in tuple(self._connections):
            self._close(purpose)

    def _reader(self) -> Channel:
        if self._channel is None:
            self._channel = self._open("reader").channel()
        return self._channel

    def _open(self, purpose: str) -> Connection:
        if purpose not in self._connections:
            self._connections[purpose] = connection = self._connect(purpose)
            # Try only once: the next call uses the next node, if there are several.
            connection.ensure_connection(max_retries=0, reraise_as_library_errors=False)
        return self._connections[purpose]

    def _close(self, purpose: str) -> None:
        if connection := self._connections.pop(purpose, None):
            with suppress(Exception):
                connection.collect(socket_timeout=1)

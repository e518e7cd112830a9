"""Consumers of the parts of a queue, which record the arriving events."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from uuid import UUID

from amqp import Channel
from amqp.exceptions import AMQPError
from kombu.message import Message

from testkit.events.messages import event_in
from testkit.servers.vhosts import Vhost

#: Seconds for which a consumer handles a message, which is longer than a relay needs to publish an
#: event.
_WORK = 0.001

#: Seconds between attempts to consume a queue that does not exist.
_RETRY = 0.2


@dataclass
class PartConsumers:
    """One consumer for each queue. A queue may appear and disappear."""

    broker: Vhost
    #: The queue, the subject, the sequence and the id of each event, sorted by arrival.
    arrived: list[tuple[str, UUID, int, UUID]] = field(default_factory=list)
    _ended: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def consuming(self, queues: Sequence[str]) -> "Iterator[PartConsumers]":
        """Consume these queues during the block."""
        threads = [threading.Thread(target=self._run, args=(name,)) for name in queues]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self._ended.set()
            for thread in threads:
                thread.join()

    def _run(self, queue: str) -> None:
        while not self._ended.is_set():
            with suppress(AMQPError, OSError), self.broker.connect() as connection:
                channel = connection.channel()
                channel.basic_qos(0, 50, False)
                handle = partial(self._handle, queue, channel)
                channel.basic_consume(queue, callback=handle, on_cancel=self._on_cancel)
                while not self._ended.is_set():
                    with suppress(TimeoutError):
                        connection.drain_events(timeout=_RETRY)
            self._ended.wait(_RETRY)

    def _handle(self, queue: str, channel: Channel, message: Message) -> None:
        if self._ended.is_set():
            # This message was delivered while the connection was closing, so it could not be
            # acknowledged.
            return
        time.sleep(_WORK)
        event = event_in(message)
        self.arrived.append((queue, event.subject, event.sequence, event.id))
        channel.basic_ack(message.delivery_tag)

    def _on_cancel(self, _tag: str) -> None:
        raise AMQPError("the queue was deleted")

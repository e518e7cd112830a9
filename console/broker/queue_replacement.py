"""Replacing a service's queue with a queue that has other arguments, while events arrive.

RabbitMQ cannot change the arguments of an existing queue. A spare queue therefore receives the
events in the meantime: it is bound before the old queue is unbound, and the messages of the old
queue are moved to the spare queue and then to the new queue. A message is acknowledged after its
copy is confirmed. After an interruption, the next run continues: messages in the spare queue belong
to the service's queue.
"""

import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress

from amqp import Channel, Message
from amqp.exceptions import ResourceLocked
from kombu.entity import Queue

from common.kombu_topology import DEAD_LETTERS
from console.broker.connection import connected
from console.broker.management import Management
from console.broker.queue_inspection import renewed
from console.broker.state import figure
from console.errors import ActionError
from console.settings import BrokerAdminSettings
from eventbus.catch_up.copies import Copies, CopyRefused
from eventbus.messaging.amqps import Connection
from eventbus.topology.limits import UNLIMITED
from eventbus.topology.objects import Binding
from eventbus.topology.service import Service

#: Number of messages that are moved together.
BATCH = 500

#: Maximum seconds for which consumers may hold messages of the old queue, and seconds for which
#: their number must be 0. The second value is higher than 5, because the broker's figure is up to 5
#: seconds old.
PATIENCE = 120.0
SETTLED = 7.0

#: Seconds to wait for the next message of a queue that should be empty.
_SILENCE = 0.5


class Replacement:
    """The replacement of a service's queue by way of the spare queue."""

    def __init__(
        self,
        broker: Management,
        connections: tuple[Connection, Connection],
        service: Service,
        queue: Queue,
        bindings: Sequence[Binding],
    ) -> None:
        reading, self._writing = connections
        self._broker = broker
        self._channel: Channel = reading.channel()
        self._service = service
        self._queue = queue
        self._bindings = bindings

    def begin(self) -> None:
        """Make the spare queue receive the events."""
        arguments = {
            "x-delivery-limit": UNLIMITED,
            "x-dead-letter-exchange": DEAD_LETTERS.name,
            "x-dead-letter-routing-key": self._service.name,
        }
        self._declare(self._service.spare_queue, arguments)
        self._bind(self._service.spare_queue)
        self._unbind(self._service.queue)

    def remove_old(self) -> int:
        """Empty the old queue and delete it, and return the number of messages deleted with it.

        These messages returned from a retry tier at that moment. Raises `ActionError` if consumers
        do not settle their messages; the previous state is then restored.
        """
        if not self._is_settled():
            self._bind(self._service.queue)
            self._unbind(self._service.spare_queue)
            if lost := self._empty_spare():
                self.recover(lost)
            raise ActionError(
                f"consumers hold messages of {self._service.queue}: stop them and apply again"
            )
        return int(self._channel.queue_delete(self._service.queue))

    def finish(self) -> int:
        """Declare the new queue and move the spare queue's messages to it.

        Return the number of messages that were deleted with the spare queue, because they arrived
        after it was unbound and found to be empty.
        """
        self._declare(self._service.queue, self._queue.queue_arguments)  # type: ignore[attr-defined]
        self._bind(self._service.queue)
        self._unbind(self._service.spare_queue)
        return self._empty_spare()

    def recover(self, lost: int) -> None:
        """Make a service that can overflow read the stream again.

        Raises `ActionError` for another service: its events must be published again from their
        outboxes.
        """
        if not self._service.can_overflow:
            raise ActionError(
                f"{lost} messages arrived while {self._service.queue} was deleted, and are lost:"
                " send the last hour's events again, as after a loss of the broker's data"
            )
        marker = Message("", message_id="replacement", delivery_mode=2)
        Copies(self._writing, self._service.overflow).put([marker])

    def _is_settled(self) -> bool:
        busy_at = changed_at = time.monotonic()
        while (now := time.monotonic()) - changed_at < PATIENCE:
            moved = self._move(self._service.queue, self._service.spare_queue)
            queue = self._broker.get("queues", self._broker.vhost, self._service.queue)
            if moved:
                changed_at = now
            # A missing figure is not 0.
            if moved or figure(queue, "messages_unacknowledged") != 0:
                busy_at = now
            elif now - busy_at > SETTLED:
                return True
        return False

    def _empty_spare(self) -> int:
        while self._move(self._service.spare_queue, self._service.queue):
            pass
        # RabbitMQ deletes a quorum queue even if it is not empty.
        return int(self._channel.queue_delete(self._service.spare_queue))

    def _move(self, source: str, target: str) -> int:
        copies = Copies(self._writing, target)
        moved = 0
        arrived = deque[Message]()
        self._channel.basic_qos(0, BATCH, False)
        consumer = self._channel.basic_consume(source, callback=arrived.append)
        while self._arrives(arrived):
            moved += self._put(copies, arrived)
        # Messages that arrived during the cancellation would otherwise stay with this channel.
        self._channel.basic_cancel(consumer)
        moved += self._put(copies, arrived)
        copies.close()
        return moved

    def _arrives(self, arrived: deque[Message]) -> bool:
        with suppress(TimeoutError):
            while len(arrived) < BATCH:
                self._channel.connection.drain_events(timeout=_SILENCE)
        return bool(arrived)

    def _put(self, copies: Copies, arrived: deque[Message]) -> int:
        messages = list(arrived)
        arrived.clear()
        copied = [(message, copy) for message in messages if (copy := renewed(message))]
        copies.put([copy for _, copy in copied])
        copied_tags = {message.delivery_tag for message, _ in copied}
        for message in messages:
            if message.delivery_tag in copied_tags:
                self._channel.basic_ack(message.delivery_tag)
            else:
                # The message cannot be copied, so it is parked unchanged.
                self._channel.basic_reject(message.delivery_tag, requeue=False)
        return len(messages)

    def _declare(self, name: str, arguments: dict[str, object]) -> None:
        self._channel.queue_declare(
            name,
            durable=True,
            auto_delete=False,
            arguments={"x-queue-type": "quorum"} | arguments,
        )

    def _bind(self, queue: str) -> None:
        for binding in self._bindings:
            self._channel.queue_bind(queue, binding.exchange, binding.routing_key)

    def _unbind(self, queue: str) -> None:
        for binding in self._bindings:
            self._channel.queue_unbind(queue, binding.exchange, binding.routing_key)


def replace(
    settings: BrokerAdminSettings,
    broker: Management,
    service: Service,
    queue: Queue,
    bindings: Sequence[Binding],
) -> None:
    """Replace a service's queue with `queue` and `bindings`, and keep its messages.

    Raises `ActionError`, including when another command is replacing the queue; another run
    continues the replacement.
    """
    wanted = queue.queue_arguments  # type: ignore[attr-defined]
    with connected(settings) as reading, connected(settings) as writing:
        _lock(reading, service)
        actual = {existing["name"]: existing for existing in broker.get("queues", broker.vhost)}
        replacement = Replacement(broker, (reading, writing), service, queue, bindings)
        try:
            lost, old = 0, actual.get(service.queue)
            if old is not None and old["arguments"] != wanted:
                replacement.begin()
                lost = replacement.remove_old()
            elif old is not None and service.spare_queue not in actual:
                # Another command has replaced it since the differences were read.
                return
            lost += replacement.finish()
            if lost:
                replacement.recover(lost)
        except CopyRefused as error:
            raise ActionError(str(error)) from None


def _lock(connection: Connection, service: Service) -> None:
    """Keep other commands from replacing this queue until the connection ends.

    The broker admits one connection to an exclusive queue, and deletes it with the connection.
    """
    try:
        connection.channel().queue_declare(
            f"{service.queue}.replacement",
            exclusive=True,
            auto_delete=False,
            arguments={"x-queue-type": "classic"},
        )
    except ResourceLocked:
        raise ActionError(f"another command replaces {service.queue}: wait until it ends") from None

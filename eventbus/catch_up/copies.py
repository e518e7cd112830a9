"""Publishing copies of past events to one service's queue, with pipelined confirms.

Copies are published only to that queue, so other services do not receive them.
"""

import time
from collections.abc import Sequence

from amqp import Message

from eventbus.errors import ExpectedError
from eventbus.messaging.amqps import Connection

#: The number of messages in the queue, including copies, above which no copies are added. New
#: events wait behind these messages, for as long as a worker takes to handle them: a few seconds.
DEPTH_LIMIT = 5_000

#: Seconds to wait for the confirms of a window.
_CONFIRM_TIMEOUT = 15.0

#: Maximum number of unconfirmed copies. With a lower number, the publisher would spend most of its
#: time waiting for the broker. A broker with an alarm stops reading from the connection. This
#: number of copies still fits into the socket's buffers, so writes do not block, and only the wait
#: for a confirm times out.
_WINDOW = 200


class CopyRefused(ExpectedError):
    """The broker did not accept a copy."""


class BrokerBlocks(CopyRefused):
    """The broker lacks memory or disk space and rejects messages. The connection remains usable.

    Do not replace the connection: the broker would not read that the old one was closed, and would
    keep both open.
    """

    def __init__(self) -> None:
        super().__init__("the broker is short of memory or disk space")


class Copies:
    """A publisher to the queue `queue`, through an exchange and a routing key that lead to it.

    `connection` must not have any other use. Every method raises the connection's errors, after
    which a new connection must be opened.
    """

    def __init__(
        self, connection: Connection, queue: str, *, exchange: str = "", routing_key: str = ""
    ) -> None:
        self._connection = connection
        self._queue = queue
        self._address = {"exchange": exchange, "routing_key": routing_key or queue}
        self._channel = connection.channel()
        self._channel.confirm_select()
        self._channel.events["basic_ack"].add(self._on_ack)
        self._channel.events["basic_nack"].add(self._on_nack)
        self._channel.events["basic_return"].add(self._on_return)
        self._tag = 0
        self._unconfirmed: set[int] = set()
        self._problem: str | None = None
        #: Whether the broker rejects messages, according to the last notification that was read.
        self.is_blocked = False
        connection.connection.on_blocked = lambda _reason: self._block(True)
        connection.connection.on_unblocked = lambda: self._block(False)

    def put(self, messages: Sequence[Message]) -> None:
        """Publish messages, and return when the broker has confirmed all of them.

        Raises `CopyRefused` if the broker refuses a message, `TimeoutError` if it does not reply,
        and `BrokerBlocks`, after which it may still accept the messages that were sent.
        """
        if self.is_blocked:
            raise BrokerBlocks
        for message in messages:
            self._tag += 1
            self._unconfirmed.add(self._tag)
            self._channel.basic_publish(message, mandatory=True, **self._address)
            self._settle(_WINDOW - 1)
        self._settle(0)

    def _settle(self, max_unconfirmed: int) -> None:
        deadline = time.monotonic() + _CONFIRM_TIMEOUT
        try:
            while len(self._unconfirmed) > max_unconfirmed and not self._problem:
                self._connection.drain_events(timeout=max(0.001, deadline - time.monotonic()))
        except TimeoutError:
            if not self.is_blocked:
                raise
            self._unconfirmed.clear()
            raise BrokerBlocks from None
        if self._problem:
            raise CopyRefused(self._problem)

    def close(self) -> None:
        """Close the channel; the connection stays open."""
        self._channel.close()

    def depth(self) -> int:
        """Return the number of ready messages in the queue."""
        declared = self._channel.queue_declare(self._queue, passive=True)
        return int(declared.message_count)

    def _block(self, is_blocked: bool) -> None:
        self.is_blocked = is_blocked

    def _on_ack(self, tag: int, multiple: bool) -> None:
        self._unconfirmed -= {t for t in self._unconfirmed if t <= tag} if multiple else {tag}

    def _on_nack(self, _tag: int, _multiple: bool) -> None:
        self._problem = f"{self._queue} refuses messages: it is full, or has no quorum"

    def _on_return(self, *_: object) -> None:
        self._problem = f"there is no queue {self._queue}"

"""Copies of past events on one service's queue: many before the first confirm.

They go to that queue only, so that no other service gets them.
"""

import time
from collections.abc import Sequence

from amqp import Message

from eventbus.errors import ExpectedError
from eventbus.messaging.amqps import Connection

#: Messages in the queue, copies or others, above which no copy is added. New events wait behind
#: them: some seconds of a worker's time.
DEPTH_LIMIT = 5_000

#: Seconds to wait for the confirms of a window.
_CONFIRM_TIMEOUT = 15.0

#: Unconfirmed copies at most. With fewer, most of the time would pass waiting for the broker. A
#: broker with an alarm stops reading from the connection: this many still fit into the socket's
#: buffers, so that waiting for a confirm times out, not a write.
_WINDOW = 200


class CopyRefused(ExpectedError):
    """The broker did not take a copy."""


class BrokerBlocks(CopyRefused):
    """The broker accepts no messages, for lack of memory or disk; the connection remains usable.

    Replacing it would leave both in the broker, which does not read that the first was closed.
    """

    def __init__(self) -> None:
        super().__init__("the broker is short of memory or disk")


class Copies:
    """Publishes messages to the queue `queue`, by an exchange and a routing key that lead to it.

    `connection` may serve nothing else. Every method raises the connection's own errors, after
    which another one must be opened.
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
        #: Whether the broker takes no messages at present, as far as has been read.
        self.is_blocked = False
        connection.connection.on_blocked = lambda _reason: self._block(True)
        connection.connection.on_unblocked = lambda: self._block(False)

    def put(self, messages: Sequence[Message]) -> None:
        """Publish messages; returns when the broker has confirmed all of them.

        Raises `CopyRefused` when the broker refuses one, and `TimeoutError` without an answer;
        `BrokerBlocks` after which the broker may still take what was sent.
        """
        if self.is_blocked:
            raise BrokerBlocks
        for message in messages:
            self._tag += 1
            self._unconfirmed.add(self._tag)
            self._channel.basic_publish(message, mandatory=True, **self._address)
            self._settle(_WINDOW - 1)
        self._settle(0)

    def _settle(self, at_most: int) -> None:
        deadline = time.monotonic() + _CONFIRM_TIMEOUT
        try:
            while len(self._unconfirmed) > at_most and not self._problem:
                self._connection.drain_events(timeout=max(0.001, deadline - time.monotonic()))
        except TimeoutError:
            if not self.is_blocked:
                raise
            self._unconfirmed.clear()
            raise BrokerBlocks from None
        if self._problem:
            raise CopyRefused(self._problem)

    def close(self) -> None:
        """Close the channel; the connection stays."""
        self._channel.close()

    def depth(self) -> int:
        """Return how many messages are ready in the queue."""
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

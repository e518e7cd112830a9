"""Copies of past events on a service's queue: many before the first confirm, never too many.

They go to the queue itself, so that no other service gets them.
"""

import time
from collections.abc import Sequence

from amqp import Message
from kombu.connection import Connection

from common.kombu_topology import Service
from console.broker_connection import ANSWER_TIMEOUT
from console.errors import ActionError

#: Messages that wait in the queue at most, copies or others. What comes live is behind these: some
#: seconds of a worker's time.
DEPTH_LIMIT = 5_000

#: Seconds for which the queue may stay full without getting shorter.
PATIENCE = 60.0

#: Seconds between two looks at a full queue.
_PAUSE = 0.2


class Copies:
    """Puts messages on the queue of one service."""

    def __init__(self, connection: Connection, service: Service) -> None:
        self._connection = connection
        self._queue = service.queue
        self._channel = connection.channel()
        self._channel.confirm_select()
        self._channel.events["basic_ack"].add(self._on_ack)
        self._channel.events["basic_nack"].add(self._on_nack)
        self._channel.events["basic_return"].add(self._on_return)
        self._tag = 0
        self._unconfirmed: set[int] = set()
        self._problem: str | None = None

    def put(self, messages: Sequence[Message]) -> None:
        """Put messages on the queue when there is room; returns when the broker has all of them.

        Raises `ActionError` when nobody makes room, or the queue takes none.
        """
        self._wait_for_room(len(messages))
        for message in messages:
            self._tag += 1
            self._unconfirmed.add(self._tag)
            self._channel.basic_publish(message, routing_key=self._queue, mandatory=True)
        deadline = time.monotonic() + ANSWER_TIMEOUT
        while self._unconfirmed and not self._problem:
            self._connection.drain_events(timeout=max(0.001, deadline - time.monotonic()))
        if self._problem:
            raise ActionError(self._problem)

    def _wait_for_room(self, messages: int) -> None:
        shortest, since = self._depth(), time.monotonic()
        depth = shortest
        while depth and depth + messages > DEPTH_LIMIT:
            if time.monotonic() - since > PATIENCE:
                raise ActionError(
                    f"{self._queue} has {depth} messages, and nobody has taken one for "
                    f"{PATIENCE:.0f} seconds: is its worker running?"
                )
            time.sleep(_PAUSE)
            depth = self._depth()
            if depth < shortest:
                shortest, since = depth, time.monotonic()

    def _depth(self) -> int:
        declared = self._channel.queue_declare(self._queue, passive=True)
        return int(declared.message_count)

    def _on_ack(self, tag: int, multiple: bool) -> None:
        self._unconfirmed -= {t for t in self._unconfirmed if t <= tag} if multiple else {tag}

    def _on_nack(self, _tag: int, _multiple: bool) -> None:
        self._problem = f"{self._queue} refuses messages: it is full, or has no quorum"

    def _on_return(self, *_: object) -> None:
        self._problem = f"there is no queue {self._queue}"

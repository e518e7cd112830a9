"""Publishes what may be lost: it never waits for the broker, and never fails."""

import logging
import select
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn

from amqp import Message
from amqp.exceptions import MessageNacked

from eventbus.messaging.amqps import Connection

log = logging.getLogger(__name__)

#: Seconds between two attempts to connect.
CONNECT_INTERVAL = 10.0

#: Seconds that the attempt, or the one write that the socket promised to take, may last at most.
PATIENCE = 1.0


class LossyPublisher:
    """Publishes over a connection of its own, opened at first use and anew after every error."""

    def __init__(
        self,
        connect: Callable[[], Connection],
        *,
        name: str,
        what: str = "task events",
        confirmed: bool = False,
    ) -> None:
        """`what` names the messages in logs. `confirmed`: a refusal counts as an error.

        No confirm is waited for. But a channel whose first message comes while a queue's leader has
        died is deaf to the next leader (RabbitMQ 3.10): it refuses all later messages to that
        queue, until the dead node is back.
        """
        self._connect = connect
        self._name = name
        self._what = what
        self._confirmed = confirmed
        self._connection: Connection | None = None
        self._next_attempt = 0.0
        #: How many nodes of a cluster to pass over at the next attempt.
        self._passed_over = 0
        self._blocked = False
        self._loses = False

    def publish(self, message: Message, *, exchange: str, routing_key: str) -> None:
        """Send the message if it can leave at once, or drop it."""
        try:
            connection = self._opened()
            if connection and self._takes_more(connection):
                connection.default_channel.basic_publish(
                    message, exchange=exchange, routing_key=routing_key
                )
        except Exception as error:
            self.close()
            if not self._loses:
                self._loses = True
                reason = f"{type(error).__name__}: {error}"
                log.warning("messages dropped", extra={"what": self._what, "reason": reason})

    def close(self) -> None:
        """Close the connection; a publish opens another, after a while."""
        connection, self._connection = self._connection, None
        if connection:
            with suppress(Exception):
                connection.collect(socket_timeout=PATIENCE)

    def _opened(self) -> Connection | None:
        if self._connection is None and time.monotonic() >= self._next_attempt:
            self._next_attempt = time.monotonic() + CONNECT_INTERVAL
            self._blocked = False
            connection = self._connect()
            connection.connect_timeout = PATIENCE  # type: ignore[assignment]
            # A dictionary of its own: the app's is every connection's.
            connection.transport_options = (connection.transport_options or {}) | {
                "client_properties": {"connection_name": self._name},
                "write_timeout": PATIENCE,
                "on_blocked": lambda _reason: self._block(True),
                "on_unblocked": lambda: self._block(False),
            }
            for _ in range(self._passed_over):
                connection.maybe_switch_next()
            self._passed_over += 1
            connection.ensure_connection(max_retries=0, reraise_as_library_errors=False)
            self._passed_over -= 1
            # Known before the next round trip, so that an error there closes it.
            self._connection = connection
            if self._confirmed:
                self._confirm(connection.default_channel)
        return self._connection

    def _takes_more(self, connection: Connection) -> bool:
        # The broker's answers first: what it objects to, or that it is out of memory.
        with suppress(TimeoutError):
            while True:
                connection.drain_events(timeout=0)
        connection.heartbeat_check(rate=2)
        room = select.poll()
        room.register(connection.connection.transport.sock, select.POLLOUT)
        takes_more = not self._blocked and bool(room.poll(0))
        if takes_more and self._loses:
            self._loses = False
            log.info("publishing resumed", extra={"what": self._what})
        return takes_more

    def _confirm(self, channel: Any) -> None:
        channel.confirm_select()
        channel.events["basic_nack"].add(_refused)

    def _block(self, blocked: bool) -> None:
        self._blocked = blocked


def _refused(*_: object) -> NoReturn:
    # Raised where the broker's answers are read, before the next message.
    raise MessageNacked("refused")

"""A publisher for messages that may be lost, which never waits for the broker and never fails."""

import logging
import select
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn

from amqp import Message
from amqp.exceptions import MessageNacked

from eventbus.messaging.amqps import Connection
from eventbus.telemetry.privacy import described

log = logging.getLogger(__name__)

#: Seconds between two attempts to connect.
CONNECT_INTERVAL = 10.0

#: Maximum seconds for an attempt to connect, or for a write that the socket reported as possible.
PATIENCE = 1.0


class BestEffortPublisher:
    """A publisher with its own connection, opened at first use and reopened after every error."""

    def __init__(
        self,
        connect: Callable[[], Connection],
        *,
        name: str,
        what: str = "task events",
        confirmed: bool = False,
    ) -> None:
        """`what` names the messages in logs. With `confirmed`, a refusal counts as an error.

        Confirms are not awaited. However, a channel whose first message is published while a
        queue's leader is down never uses the next leader (RabbitMQ 3.10): it refuses all later
        messages to that queue until the dead node returns.
        """
        self._connect = connect
        self._name = name
        self._what = what
        self._confirmed = confirmed
        self._connection: Connection | None = None
        self._next_attempt = 0.0
        #: The number of cluster nodes to skip at the next attempt.
        self._skipped_nodes = 0
        self._blocked = False
        self._is_dropping = False

    def publish(self, message: Message, *, exchange: str, routing_key: str) -> None:
        """Send the message if it can be written immediately; otherwise drop it."""
        try:
            connection = self._open_connection()
            if connection and self._is_writable(connection):
                connection.default_channel.basic_publish(
                    message, exchange=exchange, routing_key=routing_key
                )
        except Exception as error:
            self.close()
            if not self._is_dropping:
                self._is_dropping = True
                reason = described(error)
                log.warning("messages dropped", extra={"what": self._what, "reason": reason})

    def close(self) -> None:
        """Close the connection; a later `publish` opens another."""
        connection, self._connection = self._connection, None
        if connection:
            with suppress(Exception):
                connection.collect(socket_timeout=PATIENCE)

    def _open_connection(self) -> Connection | None:
        if self._connection is None and time.monotonic() >= self._next_attempt:
            self._next_attempt = time.monotonic() + CONNECT_INTERVAL
            self._blocked = False
            connection = self._connect()
            connection.connect_timeout = PATIENCE  # type: ignore[assignment]
            # The dictionary is copied, because all connections of the app share it.
            connection.transport_options = (connection.transport_options or {}) | {
                "client_properties": {"connection_name": self._name},
                "write_timeout": PATIENCE,
                "on_blocked": lambda _reason: self._block(True),
                "on_unblocked": lambda: self._block(False),
            }
            for _ in range(self._skipped_nodes):
                connection.maybe_switch_next()
            self._skipped_nodes += 1
            connection.ensure_connection(max_retries=0, reraise_as_library_errors=False)
            self._skipped_nodes -= 1
            # The attribute is set before the next round trip, so that an error there closes the
            # connection.
            self._connection = connection
            if self._confirmed:
                self._confirm(connection.default_channel)
        return self._connection

    def _is_writable(self, connection: Connection) -> bool:
        # Read the broker's replies first: errors, or a memory alarm.
        with suppress(TimeoutError):
            while True:
                connection.drain_events(timeout=0)
        connection.heartbeat_check(rate=2)
        poll = select.poll()
        poll.register(connection.connection.transport.sock, select.POLLOUT)
        is_writable = not self._blocked and bool(poll.poll(0))
        if is_writable and self._is_dropping:
            self._is_dropping = False
            log.info("publishing resumed", extra={"what": self._what})
        return is_writable

    def _confirm(self, channel: Any) -> None:
        channel.confirm_select()
        channel.events["basic_nack"].add(_refused)

    def _block(self, blocked: bool) -> None:
        self._blocked = blocked


def _refused(*_: object) -> NoReturn:
    # The error is raised here, while the broker's replies are read, before the next message.
    raise MessageNacked("refused")

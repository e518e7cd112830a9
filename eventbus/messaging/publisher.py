"""The publisher of events, with pipelined confirms: hundreds of events are in flight at a time."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from math import inf
from typing import Any, Protocol

from amqp.exceptions import IrrecoverableConnectionError

from eventbus.messaging.amqps import Connection
from eventbus.messaging.confirms import ConfirmChannel
from eventbus.messaging.event_message import EventMessages
from eventbus.messaging.in_flight import InFlight, Outgoing, Report
from eventbus.telemetry.privacy import described

#: Seconds within which all confirms of a batch must arrive. A healthy broker takes milliseconds; a
#: queue without a quorum never confirms.
CONFIRM_TIMEOUT = 10.0


class Publisher(Protocol):
    """A publisher of events to the exchange, which reports the outcome of each event."""

    def send(self, batch: Iterable[Outgoing], *, aside: bool = False) -> InFlight:
        """Publish in this order, without waiting; never raise because of the broker's state.

        Events sent `aside` have their own channel: their outcome does not affect other events.
        """

    def settle(self, in_flight: InFlight, until: float = inf) -> Report | None:
        """Wait for the confirms of a batch; never raise because of the broker's state.

        Returns None if confirms are missing at `until` (`time.monotonic()`), or as soon as the
        broker accepts no messages for lack of memory or disk space: confirms arrive when it accepts
        messages again.
        """

    def ready(self, until: float) -> bool:
        """Wait while the broker accepts no messages; return whether it accepts them at `until`."""

    def heartbeat(self) -> None:
        """Keep an idle connection alive."""


class ConfirmingPublisher:
    """A `Publisher` over one connection, opened at first use and reopened after every error.

    An event that the broker objects to closes only its channel. While the broker rejects messages,
    the connection is not replaced: the broker would not read the close, so each replaced connection
    would remain in the broker.
    """

    def __init__(
        self,
        url: str,
        *,
        tls: dict[str, Any],
        service: str,
        user: str,
        exchange: str,
        heartbeat: int,
    ) -> None:
        self._connection = Connection(
            url,
            ssl=tls,
            heartbeat=heartbeat,
            connect_timeout=5,
            transport_options={
                "client_properties": {"connection_name": f"{service}-relay publisher"},
            },
        )
        self._exchange = exchange
        self._messages = EventMessages(service, user, exchange)
        #: The channels: one for events sent aside (True), and one for all other events (False).
        self._channels: dict[bool, ConfirmChannel] = {}
        self._is_blocked = False

    def send(self, batch: Iterable[Outgoing], *, aside: bool = False) -> InFlight:
        """Publish in this order, without waiting; never raise because of the broker's state."""
        in_flight = InFlight(self._exchange)
        with self._recording_errors(in_flight):
            channel = self._open(aside)
            channel.in_flight.append(in_flight)
            in_flight.deadline = time.monotonic() + CONFIRM_TIMEOUT
            for outgoing in batch:
                channel.send(in_flight, outgoing)
            channel.flush()
        return in_flight

    def settle(self, in_flight: InFlight, until: float = inf) -> Report | None:
        """Wait for the confirms of a batch; never raise because of the broker's state."""
        with self._recording_errors(in_flight):
            if in_flight.unconfirmed and not in_flight.report.error:
                self._await(in_flight, until)
        if in_flight.unconfirmed and not in_flight.report.error:
            return None
        for channel in self._channels.values():
            channel.forget(in_flight)
        return in_flight.conclude()

    def ready(self, until: float) -> bool:
        """Wait while the broker accepts no messages; return whether it accepts them at `until`."""
        while self._is_blocked and (left := until - time.monotonic()) > 0:
            self._read_answers(min(1.0, left))
        return not self._is_blocked

    def heartbeat(self) -> None:
        """Exchange heartbeats with the broker; call this about once a second while idle."""
        self._read_answers(0)

    def close(self) -> None:
        """Close the connection; the next `send` opens another."""
        self._channels.clear()
        self._is_blocked = False
        with suppress(Exception):
            self._connection.collect(socket_timeout=1)

    def _read_answers(self, seconds: float) -> None:
        # The broker's heartbeats count only once they are read.
        if self._channels:
            with self._recording_errors():
                with suppress(TimeoutError):
                    self._connection.drain_events(timeout=seconds)
                self._connection.heartbeat_check(rate=2)

    def _await(self, in_flight: InFlight, until: float) -> None:
        while in_flight.unconfirmed and not in_flight.report.error:
            now = time.monotonic()
            if self._is_blocked:
                in_flight.deadline = now + CONFIRM_TIMEOUT
                return
            if now >= in_flight.deadline:
                # If the broker opens a channel, the broker works, and one of its queues does not.
                self._replace(in_flight)
                in_flight.give_up()
                return
            if now >= until:
                return
            for channel in self._channels.values():
                channel.flush()
            with suppress(TimeoutError):
                self._connection.drain_events(timeout=min(until, in_flight.deadline) - now)

    def _replace(self, in_flight: InFlight) -> None:
        for aside, channel in list(self._channels.items()):
            if in_flight in channel.in_flight:
                # The new channel is opened before the old one is closed, so that confirms can
                # arrive in the meantime.
                self._channels[aside] = self._new_channel()
                channel.close()
                for late in channel.in_flight:
                    late.give_up()

    def _open(self, aside: bool) -> ConfirmChannel:
        channel = self._channels.get(aside)
        if channel and channel.has_refused and not channel.objection:
            self._renew(aside, channel)
            channel = self._channels.get(aside)
        if channel is None or channel.objection:
            self._connect()
            channel = self._channels[aside] = self._new_channel()
        return channel

    def _renew(self, aside: bool, channel: ConfirmChannel) -> None:
        # A new channel does not help if a queue is full. But a channel whose first message was
        # published while a queue's leader was down refuses all later messages until that node
        # returns.
        for in_flight in list(channel.in_flight):
            self._await(in_flight, inf)
        is_idle = not any(in_flight.unconfirmed for in_flight in channel.in_flight)
        if is_idle and self._channels.get(aside) is channel:
            channel.close()
            del self._channels[aside]

    def _connect(self) -> None:
        if self._connection.connected:
            return
        # Try only once: `connect()` would sleep for two seconds and retry, beyond the drain's
        # deadline.
        try:
            self._connection.ensure_connection(max_retries=0, reraise_as_library_errors=False)
        except Exception:
            # The next attempt uses the next node, if there are several.
            self._connection.maybe_switch_next()
            raise
        amqp = self._connection.connection
        amqp.on_blocked, amqp.on_unblocked = self._on_blocked, self._on_unblocked

    def _new_channel(self) -> ConfirmChannel:
        return ConfirmChannel(self._connection.connection, self._messages, self._has_room)

    def _has_room(self) -> bool:
        return not self._is_blocked

    def _on_blocked(self, _reason: str) -> None:
        self._is_blocked = True

    def _on_unblocked(self) -> None:
        self._is_blocked = False

    @contextmanager
    def _recording_errors(self, in_flight: InFlight | None = None) -> Iterator[None]:
        connection = self._connection
        try:
            yield
        # py-amqp raises AttributeError if a connection has just ended.
        except (*connection.connection_errors, *connection.channel_errors, AttributeError) as error:
            # All batches in flight end with the connection.
            batches = [batch for channel in self._channels.values() for batch in channel.in_flight]
            for lost in {id(batch): batch for batch in (*batches, in_flight) if batch}.values():
                lost.report.error = described(error)
                lost.report.objected = bool(
                    lost.unconfirmed and isinstance(error, IrrecoverableConnectionError)
                )
            # After an error, late confirms could be taken for confirms of later messages.
            self.close()

"""Parked messages of several services, types and reasons, as the consumer runtime parks them."""

from collections.abc import Callable, Iterable, Iterator
from itertools import cycle, islice

from amqp import Channel, Message

from bench.console.stored_orders import OPTIONAL
from bench.system.measured import Measured
from bench.system.servers import execute
from common.kombu_topology import service as find
from deploy.local.problem import Problem
from eventbus.consumer.cause import Cause, Verdict
from eventbus.consumer.failure import Failure

#: Each service, the service whose outbox has the parked events, their type, and their fraction.
_PARKED = (
    ("inventory", "order", "order.created", 0.6),
    ("notification", "order", "order.confirmed", 0.2),
    ("order", "inventory", "stock.reserved", 0.1),
    *((name, "order", "order.created", 0.1 / len(OPTIONAL)) for name in OPTIONAL),
)

#: The failure that only a few messages have.
RARE = "InvalidEvent"

#: Failures, of unequal frequency.
_CAUSES = (
    *(("OperationalError", "canceling statement due to lock timeout", "stock.py:lock"),) * 4,
    *(("ValueError", "the quantity of a line is not a multiple of 6", "reservations.py:reserve"),)
    * 2,
    (RARE, "total is not the sum of the lines", "codec.py:decode"),
    ("WaitsBehind", "an earlier event of its order is parked", ""),
)
_RELEASES = ("2026.11.1", "2026.11.2")

#: Maximum number of unconfirmed messages, and seconds to wait for the next confirm.
_UNCONFIRMED = 500
_PATIENCE = 30

_EVENTS = """
SELECT event_id::text, event FROM outbox WHERE type = :type ORDER BY id DESC LIMIT :count
"""

Log = Callable[[str], None]


def park(measured: Measured, count: int, log: Log) -> int:
    """Publish about this many messages to the parking lots; return how many.

    The broker has confirmed each message. The messages carry the newest stored events, which are
    repeated if there are fewer events than messages.
    """
    parked = 0
    with measured.vhost.connect() as connection:
        for service, publisher, type_, fraction in _PARKED:
            number = int(count * fraction)
            stored = execute(measured, publisher, _EVENTS, type=type_, count=number)
            events = islice(cycle(stored), number)
            confirmed = _Confirmed(connection.channel())
            for message in _messages(service, type_, events, number):
                confirmed.publish(message, find(service).parking_lot)
            confirmed.wait()
            log(f"{service}: {number:,} messages parked")
            parked += number
    return parked


def _messages(
    service: str, type_: str, events: Iterable[tuple[str, str]], number: int
) -> Iterator[Message]:
    causes = cycle(_CAUSES)
    for position, (event_id, event) in enumerate(events):
        release = _RELEASES[position * len(_RELEASES) // number]
        cause = Cause(Verdict.RETRY, *next(causes))
        failure = Failure.of(cause, service=service, release=release, headers={})
        headers = {"task": type_, "id": event_id, "retries": 5} | failure.to_headers()
        yield Message(
            f'[[], {{"event": {event}}}, {{}}]'.encode(),
            application_headers=headers,
            message_id=event_id,
            type=type_,
            content_type="application/json",
            content_encoding="utf-8",
            delivery_mode=2,
        )


class _Confirmed:
    """A channel that publishes with several confirms outstanding; a refused message is an error."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._tag = 0
        self._unconfirmed: set[int] = set()
        channel.confirm_select()
        channel.events["basic_ack"].add(self._ack)
        channel.events["basic_nack"].add(self._nack)

    def publish(self, message: Message, queue: str) -> None:
        """Publish a message; waits while too many are unconfirmed."""
        self._channel.basic_publish(message, routing_key=queue)
        self._tag += 1
        self._unconfirmed.add(self._tag)
        if len(self._unconfirmed) >= _UNCONFIRMED:
            self.wait()

    def wait(self) -> None:
        """Wait until every message is confirmed."""
        while self._unconfirmed:
            self._channel.connection.drain_events(timeout=_PATIENCE)

    def _ack(self, tag: int, multiple: bool) -> None:
        if multiple:
            self._unconfirmed = {each for each in self._unconfirmed if each > tag}
        else:
            self._unconfirmed.discard(tag)

    def _nack(self, tag: int, *_: object) -> None:
        raise Problem(f"the broker has refused the parked message {tag}")

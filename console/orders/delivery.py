"""The delivery of an order's event to one service: where the event is, and why it waits."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from console.broker.parked_message import Parked
from console.ledger.account import Place
from console.orders.journal import Handled, Sent

#: The places in which an event is not waiting for the service.
_CLOSED = {Place.HANDLED, Place.DISCARDED, Place.EXPIRED, Place.EARLIER}

#: Templates of sentences, with the source of the event and the service that consumes it.
_WHERE: Mapping[Place, str] = {
    Place.UNSENT: "unsent in the outbox of {source}",
    Place.IN_FLIGHT: "in flight to {service}",
    Place.RETRYING: "in a retry tier of {service}",
    Place.PARKED: "parked at {service}",
    Place.DISCARDED: "discarded at {service}",
    Place.IN_STREAM: "in the stream, to be read by {service}",
    Place.HANDLED: "handled by {service}",
    Place.MISSING: "lost on its way to {service}",
    Place.EXPIRED: "too old: the inbox of {service} no longer shows whether it was handled",
    Place.EARLIER: "from before {service} subscribed",
}


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """An event of an order and its place, from the point of view of one service.

    `handled` is None unless the place is HANDLED. `message` is the message in a retry tier or the
    parking lot, if it was found. `problem` states why the event does not move, if the reason is
    known. `is_paused` states whether the reason is a pause of the service.
    """

    event: Sent
    service: str
    place: Place
    handled: Handled | None = None
    message: Parked | None = None
    problem: str = ""
    is_paused: bool = False

    @property
    def is_open(self) -> bool:
        """Whether the service has yet to handle the event."""
        return self.place not in _CLOSED

    @property
    def where(self) -> str:
        """A text that names the place, such as `parked at inventory`."""
        if self.place is Place.IN_FLIGHT and self.problem:
            return f"waiting for {self.service}"
        return _WHERE[self.place].format(source=self.event.source, service=self.service)

    @property
    def cause(self) -> tuple[str, ...]:
        """The place and the reason without the details of one message, to group deliveries."""
        holder = self.event.source if self.place is Place.UNSENT else self.service
        reason = self.message.failure if self.message else self.problem
        return (self.event.type, self.place, holder, reason)

    @property
    def why(self) -> str:
        """The reason why the event does not move, or an empty string."""
        if self.message is None:
            return self.problem
        failure, attempts = self.message.exception, self.message.attempts
        reason = f"{failure}: {self.message.text}" if failure else self.message.text
        return f"{reason} (attempt {attempts})" if attempts else reason


def waiting(deliveries: Iterable[Delivery]) -> tuple[Delivery, ...]:
    """Return the deliveries that wait. An unsent event is included once for all consumers."""
    listed: dict[tuple[object, ...], Delivery] = {}
    for delivery in deliveries:
        if delivery.is_open:
            service = None if delivery.place is Place.UNSENT else delivery.service
            listed.setdefault((delivery.event.id, service), delivery)
    return tuple(listed.values())

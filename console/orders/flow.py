"""The flow of an order: the events between services, with every failed attempt."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import groupby

from common.kombu_topology import CONSUMERS
from console.ledger.account import Place
from console.orders.delivery import Delivery
from eventbus.events.versions import versions
from span_store.models import SpanRow

#: The participant that publishes the first event of an order.
API = "order-api"

#: Participants in the order in which they are drawn.
_PARTICIPANTS = (API, *(service.name for service in CONSUMERS))

#: Maximum number of steps of one flow, of which the first are kept. An order has about a dozen.
LIMIT = 60

#: Maximum number of failed attempts of one service for one event, of which the last are kept. An
#: outage may cause any number of attempts.
_ATTEMPTS = 10

#: The text of each outcome that is shown as a failed attempt. Parking is a separate step.
_FAILED = {"retry": "failed", "paused": "paused"}


class Outcome(StrEnum):
    """The outcome of a step."""

    HANDLED = "handled"
    FAILED = "failed"
    #: The receiver has yet to handle the event.
    WAITING = "waiting"


@dataclass(frozen=True, kw_only=True)
class Step:
    """An attempt of a service to handle an event, the parking of an event, or its wait.

    From the second step of an event at a service onwards, `sender` is None: the service already has
    the message. `after` is the time since the order was placed, None if it is unknown.
    """

    event_type: str
    sender: str | None
    receiver: str
    outcome: Outcome
    text: str
    after: timedelta | None


@dataclass(frozen=True, kw_only=True)
class Flow:
    """The participants from left to right, and the steps in the order of their times."""

    participants: tuple[str, ...]
    steps: tuple[Step, ...]


def flow(
    placed_at: datetime, deliveries: Iterable[Delivery], spans: Iterable[SpanRow] = ()
) -> Flow:
    """Return the flow of an order that was placed at this time, at most `LIMIT` steps.

    Without the spans, only the number of failed attempts is known.
    """
    failures = _failures(spans)
    timed = [
        (step.after or delivery.event.created_at - placed_at, step)
        for delivery in deliveries
        for step in _steps(placed_at, delivery, failures.get(_key(delivery), ()))
    ]
    # Steps of one event at one service stay in their order.
    steps = tuple(step for _, step in sorted(timed, key=lambda pair: pair[0])[:LIMIT])
    involved = {name for step in steps for name in (step.sender, step.receiver)}
    return Flow(participants=tuple(n for n in _PARTICIPANTS if n in involved), steps=steps)


def _key(delivery: Delivery) -> tuple[str, str]:
    return delivery.service, str(delivery.event.id)


def _failures(spans: Iterable[SpanRow]) -> Mapping[tuple[str, str], Sequence[SpanRow]]:
    """Return the spans of failed attempts by the service and the event, in their order."""

    def key(span: SpanRow) -> tuple[str, str]:
        return span.service.removesuffix("-worker"), str(span.attributes.get("event.id"))

    failed = [span for span in spans if span.attributes.get("outcome") in _FAILED]
    failed.sort(key=lambda span: (*key(span), span.started_at))
    return {name: list(group) for name, group in groupby(failed, key)}


def _steps(placed_at: datetime, delivery: Delivery, spans: Sequence[SpanRow]) -> Iterator[Step]:
    event = delivery.event
    sender: str | None = API if "order.created" in versions(event.type) else event.source
    for outcome, text, moment in _happened(delivery, spans):
        yield Step(
            event_type=event.type,
            sender=sender,
            receiver=delivery.service,
            outcome=outcome,
            text=text,
            after=moment - placed_at if moment else None,
        )
        sender = None


def _happened(
    delivery: Delivery, spans: Sequence[SpanRow]
) -> Iterator[tuple[Outcome, str, datetime | None]]:
    yield from _attempts(delivery, spans)
    handled, message = delivery.handled, delivery.message
    if handled:
        number = f" at attempt {handled.attempts}" if handled.attempts > 1 else ""
        yield Outcome.HANDLED, f"handled{number}", handled.handled_at
    elif delivery.place is Place.HANDLED:
        yield Outcome.HANDLED, "handled a moment ago", None
    elif delivery.place in {Place.PARKED, Place.DISCARDED}:
        failed_at = message.last_failure if message else None
        yield Outcome.FAILED, _described(delivery), failed_at
    elif delivery.is_open:
        yield Outcome.WAITING, _described(delivery), None


def _attempts(
    delivery: Delivery, spans: Sequence[SpanRow]
) -> Iterator[tuple[Outcome, str, datetime | None]]:
    """Yield the failed attempts, as far as they are known."""
    for span in spans[-_ATTEMPTS:]:
        ended_at = span.started_at + timedelta(microseconds=span.microseconds)
        number = span.attributes.get("attempt")
        text = f"attempt {number} {_FAILED[span.attributes['outcome']]}"
        yield Outcome.FAILED, f"{text}: {span.reason}" if span.reason else text, ended_at
    failed = delivery.handled.attempts - 1 if delivery.handled else 0
    if failed and not spans:
        text = "1 attempt failed" if failed == 1 else f"{failed} attempts failed"
        yield Outcome.FAILED, text, None


def _described(delivery: Delivery) -> str:
    return f"{delivery.where}: {delivery.why}" if delivery.why else delivery.where

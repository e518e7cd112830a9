"""Handling events in a service, from the message body to the commit, independently of Celery."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from itertools import groupby
from typing import Any, NamedTuple

from sqlalchemy.orm import Session

from eventbus.consumer import parked_events
from eventbus.consumer.inbox import first_deliveries
from eventbus.database import outages
from eventbus.database.db import Sessions, transaction
from eventbus.errors import InvalidEvent, Permanent, Transient, WaitsBehind
from eventbus.events import codec
from eventbus.events.catalogue import current
from eventbus.events.conversion import upcast
from eventbus.events.envelope import Event, EventData
from eventbus.outbox.table import one_statement
from eventbus.telemetry import tracing

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BatchHandler:
    """A handler of many events together, with the same effect as one call for each event.

    Events of all types with the same function are passed to it together, in order of arrival.
    """

    handle: Callable[[Session, Sequence[Event]], None]


#: A handler of one event, or of many events together.
Handler = Callable[[Session, Event], None] | BatchHandler

#: The handlers of a service, by contract. Events of older versions are converted to the contract.
Handlers = Mapping[type[EventData], Handler]


class Outcome(StrEnum):
    """The result of handling an event."""

    HANDLED = "handled"
    DUPLICATE = "duplicate"
    FAILED = "failed"
    #: The event was not handled, because an earlier event of its subject is parked.
    WAITING = "waiting"


class Delivery(NamedTuple):
    """A message as the queue delivered it. `attempts` includes this delivery."""

    task: str
    #: The raw body, not parsed yet.
    body: bytes | str
    attempts: int
    #: The header `traceparent`, which identifies the span that published the message.
    traceparent: str | None = None
    #: The id of the event, from the header `id`.
    event_id: str = ""
    #: Whether earlier deliveries ended with a lost connection, so that the event may crash its
    #: worker.
    is_suspect: bool = False
    #: All headers, or None if they are exactly those that `event_message.task_headers` returns.
    headers: Mapping[str, Any] | None = None


class Result(NamedTuple):
    """The result of one delivery of a batch."""

    outcome: Outcome
    #: The reason to park the delivery, if there is one.
    error: Permanent | None = None
    #: Seconds from the event's time to its effect; None if the event is replayed or has no effect.
    lateness: float | None = None


@dataclass(slots=True)
class Item:
    """The state of one delivery in `receive_batch`."""

    delivery: Delivery
    #: The event in the version that was published, which the inbox records.
    event: Event | None = None
    #: The event in the version that the handlers accept.
    newest: Event | None = None
    outcome: Outcome = Outcome.FAILED
    #: The reason to park the delivery, if there is one.
    error: Permanent | None = None
    #: The parent span of the events that this event causes.
    traceparent: str | None = field(default=None)

    @classmethod
    def of(cls, delivery: Delivery, handlers: Handlers) -> "Item":
        """Return a delivery with its event, or with the error if it does not contain an event."""
        item = cls(delivery)
        try:
            event = _decode(delivery)
            item.newest, item.event = upcast(event, handlers), event
        except InvalidEvent as error:
            item.error = error
        return item

    @property
    def result(self) -> Result:
        """The result of the delivery, once its transaction is committed."""
        lateness = None
        if self.event and self.outcome is Outcome.HANDLED and not self.event.replayed:
            lateness = (datetime.now(UTC) - self.event.time).total_seconds()
        return Result(self.outcome, self.error, lateness)


def receive_one(
    sessions: Sessions, handlers: Handlers, item: Item, *, in_sequence: bool = False
) -> None:
    """Handle one event as `receive_batch` does, but raise its error even if the error is permanent.

    If the event waits behind a parked event, nothing is raised, and the item contains the reason.
    """
    item.traceparent = item.traceparent or tracing.traceparent()
    try:
        receive_batch(sessions, handlers, [item], in_sequence=in_sequence)
    except (Transient, Permanent):
        raise
    except Exception as error:
        _log_failure(item, error)
        raise
    if item.error and item.outcome is Outcome.FAILED:
        raise item.error


def receive_batch(
    sessions: Sessions, handlers: Handlers, items: Sequence[Item], *, in_sequence: bool = False
) -> None:
    """Handle each event once, all in one transaction, and set their outcomes.

    Effects and dedup keys are committed together or not at all. An invalid event fails alone. With
    `in_sequence`, an event that waits behind a parked event also fails alone. Exceptions of a
    handler or the database roll back the transaction and are propagated. The caller then handles
    each event separately.
    """
    with transaction(sessions) as session:
        if in_sequence:
            _hold_back(session, items)
        new_ids = first_deliveries(session, ((i.event, i.delivery.attempts) for i in _valid(items)))
        new_events = []
        for item in _valid(items):
            # If a batch contains two copies of an event, only the first is new.
            is_new = item.event.id in new_ids
            new_ids.discard(item.event.id)
            item.outcome = Outcome.HANDLED if is_new else Outcome.DUPLICATE
            if is_new:
                new_events.append(_with_traceparent(item.newest, item.traceparent))
        with one_statement(session):
            _handle(session, handlers, new_events)
    for item in _valid(items):
        fields = _log_fields(item.event, item.delivery.attempts, item.outcome)
        log.info("event received", extra=fields)


def _hold_back(session: Session, items: Sequence[Item]) -> None:
    valid = list(_valid(items))
    waiting = parked_events.hold_back(session, [item.event for item in valid])
    for item in valid:
        if first := waiting.get(item.event.id):
            item.outcome, item.error = Outcome.WAITING, WaitsBehind(f"waits behind event {first}")
    parked_events.record(session, (i.delivery.body for i in items if i.event is None))


def _handle(session: Session, handlers: Handlers, events: Iterable[Event]) -> None:
    # Only adjacent events with the same handler are grouped, so an order's events stay in sequence.
    # A batch handler of several types receives their events together, so it can lock the rows of
    # the batch in a fixed order.
    for handler, run in groupby(events, key=lambda event: handlers[type(event.data)]):
        if isinstance(handler, BatchHandler):
            handler.handle(session, list(run))
        else:
            for event in run:
                handler(session, event)


def _valid(items: Iterable[Item]) -> Iterable[Any]:
    return (item for item in items if item.event is not None and item.error is None)


def _decode(delivery: Delivery) -> Event:
    event = codec.read(delivery.body)
    if event.type != delivery.task:
        raise InvalidEvent(f"an event of type {event.type} arrived as {delivery.task}")
    return event


def _log_failure(item: Item, error: Exception) -> None:
    # The worker logs an outage once. Any other error is a bug, whose traceback is needed. The log
    # formatter omits its text, which may contain a customer's data.
    if item.event and not outages.reason(error):
        log.error(
            "handler failed",
            exc_info=error,
            extra=_log_fields(item.event, item.delivery.attempts, Outcome.FAILED),
        )


def _with_traceparent(event: Event, traceparent: str | None) -> Event:
    # The span of the attempt, if there is one, is the parent of the events that the handler
    # appends.
    return replace(event, traceparent=traceparent) if traceparent else event


def _log_fields(event: Event, attempts: int, outcome: Outcome) -> dict[str, Any]:
    trace_id = tracing.trace_id(event.traceparent)
    return {
        "event_id": str(event.id),
        "event_type": event.type,
        current().id_field: str(event.subject),
        "attempt": attempts,
        "outcome": outcome.value,
    } | ({"trace_id": trace_id} if trace_id else {})
